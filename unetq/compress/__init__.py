"""Bits under a budget: measured sensitivities and costs, an exact choice of bits, a packed file inside the budget."""
