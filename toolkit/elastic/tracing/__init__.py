"""From a model to its data flow: recorded, checked, and divided at cuts."""
