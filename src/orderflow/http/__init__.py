"""HTTP: server, application, problem documents, and the operators' endpoints."""
