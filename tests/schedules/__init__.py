"""SQL under a scheduler: production code on a real PostgreSQL, its sessions taking turns at every statement."""
