"""What is checked and measured, in which order, and how long each part may take."""

from __future__ import annotations

from scheduler import Part

# Parts that only correctness needs: 240 seconds in all.
FIRST = (
    Part("machine", 20),
    Part("attention", 35),
    Part("loss", 20),
    Part("token_logprobs", 15),
    Part("one_graph", 35),
    Part("precision", 20),
    Part("overflow", 10),
    Part("bench dense-180m", 35, {"recipe": "dense-180m", "rows": 16, "micro": 8, "steps": 4}),
    Part("bench slm-1.3b", 40, {"recipe": "slm-1.3b", "rows": 8, "micro": 4, "steps": 4}),
    Part("generate", 10),
)
# Parts that measure speed: 420 seconds in all.
SECOND = (
    Part("machine", 20),
    Part("bench slm-1.3b", 60, {"recipe": "slm-1.3b", "rows": 32, "micro": 8, "steps": 8}),
    Part("bench tinystories-30m", 40, {"recipe": "tinystories-30m", "rows": 1024, "micro": 512, "steps": 10}),
    Part(
        "transformers tinystories-30m",
        45,
        {"recipe": "tinystories-30m", "rows": 1024, "micro": 256, "steps": 10},
    ),
    Part(
        "nanogpt tinystories-30m", 40, {"recipe": "tinystories-30m", "rows": 1024, "micro": 256, "steps": 10}
    ),
    Part("bench dense-180m", 45, {"recipe": "dense-180m", "rows": 64, "micro": 16, "steps": 8}),
    Part("transformers dense-180m", 50, {"recipe": "dense-180m", "rows": 64, "micro": 16, "steps": 8}),
    Part("resume", 75),
    Part("profile", 45),
)
# Where there is more time.
RECIPES = (
    Part("machine", 20),
    *(
        Part(f"bench {recipe}", 90, {"recipe": recipe, "rows": rows, "steps": 10})
        for recipe, rows in (
            ("tinystories-30m", 1024), ("smol-160m", 64), ("dense-180m", 64),
            ("smol-600m", 64), ("gpt2-1b", 32), ("slm-1.3b", 32),
        )
    ),
)  # fmt: skip
LIFE = (Part("machine", 20), Part("life", 900))

PLANS = {"first": FIRST, "second": SECOND, "recipes": RECIPES, "life": LIFE}
LIMITS = {"first": 240, "second": 420}
