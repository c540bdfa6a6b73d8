"""What runs while a model serves: the choice of the subnet as conditions change."""
