"""Writes an OpenAPI document for the resources under test, read off the installed openai package itself.

usage: openapi.py > openapi.json

OpenAI's own document is on none of the package registries. The SDK says all that a mock needs: each method names its path,
its verb and the type it turns the answer into, and pydantic knows the JSON schema of that type. What a request must look like
is left open; the SDK's tests are about the SDK, and this run is about what lies between it and the mock.
"""

import ast
import importlib
import inspect
import json
import sys
import warnings
from pathlib import Path

from pydantic import TypeAdapter

RESOURCES = ["beta.assistants", "beta.threads", "beta.responses", "chat", "conversations", "responses"]
VERBS = {"_get": "get", "_post": "post", "_delete": "delete", "_put": "put", "_patch": "patch", "_get_api_list": "get"}


def modules():
    """The modules of the resources, by their dotted names."""
    import openai.resources as resources

    root = Path(resources.__file__).parent
    for resource in RESOURCES:
        path = root / resource.replace(".", "/")
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        for file in files:
            if file.stem != "__init__":
                name = ".".join(file.relative_to(root).with_suffix("").parts)
                yield importlib.import_module(f"openai.resources.{name}")


def calls(module):
    """Each request the synchronous classes of a module make: verb, path, and the type of its answer."""
    tree = ast.parse(inspect.getsource(module))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("Async")]
    for node in (node for each in classes for node in ast.walk(each)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VERBS):
            continue
        path = node.args[0] if node.args else None
        if isinstance(path, ast.Call):
            path = path.args[0]
        if not (isinstance(path, ast.Constant) and isinstance(path.value, str)):
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        answer = keywords.get("page") or keywords.get("cast_to")
        if answer is not None:
            yield VERBS[node.func.attr], path.value.split("?")[0], evaluated(answer, module)


def evaluated(expression, module):
    # `cast(Any, X)` is how a union is passed.
    names = vars(module) | {"cast": lambda _, value: value}
    return eval(compile(ast.Expression(expression), module.__file__, "eval"), names)


def operation(path, answer, schemas):
    # Models of different modules share names, and pydantic tells them apart within one schema only.
    prefix = f"of_{len(schemas)}_"
    references = f"#/components/schemas/{prefix}{{model}}"
    if answer.__class__ is type and answer.__name__ == "NoneType":
        content = None
    else:
        try:
            schema = TypeAdapter(answer).json_schema(ref_template=references)
        except Exception as error:  # Such as raw bytes, which have no schema.
            print(f"{path}: {answer}: {error}", file=sys.stderr)
            schema = {}
        schemas |= {prefix + name: model for name, model in schema.pop("$defs", {}).items()}
        content = {"application/json": {"schema": schema}}
    parameters = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for part in path.split("/")
        if part.startswith("{")
    ]
    return {
        "parameters": parameters,
        "responses": {"200": {"description": "as the SDK reads it"} | ({"content": content} if content else {})},
    }


def main():
    warnings.simplefilter("ignore")
    paths, schemas = {}, {}
    for module in modules():
        for verb, path, answer in calls(module):
            paths.setdefault(path, {}).setdefault(verb, operation(path, answer, schemas))
    document = {
        "openapi": "3.1.0",
        "info": {"title": "What the openai package asks for", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    json.dump(document, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
