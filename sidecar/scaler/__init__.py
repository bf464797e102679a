"""The scaler's shell: services, where their demand is read, who starts and stops their replicas, what is kept."""
