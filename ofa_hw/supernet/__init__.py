"""Supernets: elastic torch modules, the sub-networks taken from them, published weights."""
