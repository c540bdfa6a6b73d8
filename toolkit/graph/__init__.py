"""The search space: cuts, blocks and subnets, what they cost, how they are drawn, and which are on a front."""
