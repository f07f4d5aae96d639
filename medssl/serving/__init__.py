"""A task model as a service of a research network: scans in, masks or answers out."""
