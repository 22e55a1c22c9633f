"""The experiments that come with unetq: one YAML file each (installed as the package ``unetq_configs``)."""
