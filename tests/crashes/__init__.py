"""Every crash point × service × log: a process dies there, is started again, and the promises hold."""
