"""The API of deliveries, workflows, breakers, permits, slots and claims."""
