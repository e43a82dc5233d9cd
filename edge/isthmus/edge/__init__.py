"""The edge agent: OpenAI's API in front, both tiers behind, a record of every answer."""
