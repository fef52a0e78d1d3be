"""Every crash point, service and log: a process dies there, is started again, and the promises hold."""
