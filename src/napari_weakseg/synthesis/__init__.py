"""Label maps and images made from random numbers alone, to train networks that must not have seen a patient."""
