"""How far a verdict can be trusted: `compare` and three other checkers on the same random
networks, correct ones and ones with an error planted in them."""
