"""What runs while a model serves: the subnet, how it is paged in, and the choice of it as conditions change."""
