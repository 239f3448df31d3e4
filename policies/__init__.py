"""What is allowed: policy documents, their proofs, and the pure decisions drawn from them."""
