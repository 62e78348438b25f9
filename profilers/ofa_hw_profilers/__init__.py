"""The backends that come with ofa_hw, one module each."""
