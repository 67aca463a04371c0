"""What is derived from the runbooks' declarations and the sites: `prefect.yaml`, tags, the runbook book."""
