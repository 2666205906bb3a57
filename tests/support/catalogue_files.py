"""Catalogue files for the tests of imports."""

import json
from typing import Any


def catalogue(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": f"P{number}",
            "name": f"Product {number}",
            "basePrice": 100,
            "maxQuantity": 50,
            "variants": [{"id": f"P{number}-oak", "variantValue": "Oak", "maxQuantity": 50}],
            **fields,
        }
        for number in range(count)
    ]


def as_json(rows: object) -> bytes:
    return json.dumps(rows, indent=1).encode()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    lines = ["productId,variantId,name,basePrice,variantValue,maxQuantity"]
    for row in rows:
        lines.append(f"{row['id']},,{row['name']},{row['basePrice']},,{row['maxQuantity']}")
        for variant in row["variants"]:
            value, most = variant["variantValue"], variant["maxQuantity"]
            lines.append(f"{row['id']},{variant['id']},,,{value},{most}")
    return "\n".join(lines).encode()
