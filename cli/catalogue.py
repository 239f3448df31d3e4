"""Turns the products of a population into an advertiser's list."""

from __future__ import annotations

from client.population.build import Population
from server.campaigns.templates import ItemFacts


def catalogue_items(population: Population) -> list[ItemFacts]:
    """The population's products as an advertiser would list them."""
    return [
        ItemFacts(
            item.item,
            item.attributes.get("category", "other"),
            {**item.attributes, "product": item.attributes.get("type", "").title()},
            dict(item.numbers),
        )
        for item in population.items
    ]
