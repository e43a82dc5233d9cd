"""Where a request goes: signals, a difficulty score, and the policy that decides."""
