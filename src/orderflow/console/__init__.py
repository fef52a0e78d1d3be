"""The page: Flow, Orders, Dead letters, Health. A process of its own that asks the services, and no database."""
