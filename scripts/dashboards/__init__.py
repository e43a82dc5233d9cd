"""The operator's Grafana dashboards: one module a dashboard, which reads as its content."""
