"""All bombs, in the order in which they are played."""

import bounds
import crowds
import documents
import streams
import uploads


def bombs():
    every = [*uploads.bombs(), *documents.bombs(), *streams.bombs(), *bounds.bombs(), *crowds.bombs()]
    names = [bomb.name for bomb in every]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    return every


def bomb(name):
    return next(bomb for bomb in bombs() if bomb.name == name)
