"""Write the numbers anew: a line for each setting of each rule."""

import json
from pathlib import Path

from tests.compare.allowances import summaries
from tests.compare.allowances.parts import PARTS


def text(rules: dict[str, dict]) -> str:
    def lines(settings: dict) -> str:
        return ",\n".join(
            f"  {json.dumps(setting)}: {json.dumps(rows, ensure_ascii=False)}"
            for setting, rows in settings.items()
        )

    parts = (f" {json.dumps(rule)}: {{\n{lines(found)}\n }}" for rule, found in rules.items())
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    for part, rules in PARTS.items():
        found = {rule: summaries(settings()) for rule, settings in rules.items()}
        Path(__file__).with_name(f"{part}.json").write_text(text(found), "utf-8")
