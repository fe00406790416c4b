"""Who may do what: a role is a set of actions.

    read        see models, data, records            train       train, evaluate, compare
    generate    ask models                           manage      import, export, remove models
    annotate    rate and correct answers             administer  people, keys, retention, backups

A role is called by its name, by one action, or by several: "reader", "generate", "read,annotate".
So "read all, rate only" is "annotator", and a key for a build server is "generate".
"""

from __future__ import annotations

from collections.abc import Iterable

from morphogen.core.errors import AccessError, RecipeError, did_you_mean

ACTIONS = ("read", "generate", "annotate", "train", "manage", "administer")
ROLES: dict[str, frozenset[str]] = {
    "reader": frozenset({"read"}),
    "annotator": frozenset({"read", "annotate"}),
    "maker": frozenset({"read", "generate", "annotate"}),
    "trainer": frozenset({"read", "generate", "annotate", "train"}),
    "manager": frozenset({"read", "generate", "annotate", "train", "manage"}),
    "administrator": frozenset(ACTIONS),
}


def actions_of(role: str) -> frozenset[str]:
    """The actions of a role. Raises `RecipeError` for a word that is neither role nor action."""
    found: set[str] = set()
    for word in filter(None, map(str.strip, role.split(","))):
        if word in ROLES:
            found |= ROLES[word]
        elif word in ACTIONS:
            found.add(word)
        else:
            raise RecipeError(
                f"there is no role {word!r}.{did_you_mean(word, [*ROLES, *ACTIONS])}",
                expected=f"one of {', '.join(ROLES)}; or actions: {', '.join(ACTIONS)}",
            )
    if not found:
        raise RecipeError("a role has an action at least", expected=", ".join(ROLES))
    return frozenset(found)


def check_action(action: str, allowed: Iterable[str], who: str) -> None:
    """Raise `AccessError` where `action` is not among those allowed."""
    assert action in ACTIONS, action
    if action not in set(allowed):
        raise AccessError(
            f"{who} may not {action}",
            found=", ".join(a for a in ACTIONS if a in set(allowed)),
            expected=action,
            hint=f"an administrator can: morphogen users role {who} ROLE",
        )
