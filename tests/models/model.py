"""Holds a request as it was on the wire against botocore's service model.

Unknown members, missing ones, wrong types, enum values, lengths and patterns.
Not for what a service checks beyond its model.
"""

import json
import re
import urllib.parse

import botocore.loaders
import botocore.model
import botocore.validate

# The names of sluicegate-local's call log, and botocore's.
SERVICES = {
    "dynamodb": "dynamodb",
    "elasticmapreduce": "emr",
    "events": "events",
    "redshift-data": "redshift-data",
    "sns": "sns",
    "sqs": "sqs",
}


class Models:
    """The service models, each loaded once."""

    def __init__(self):
        self._loader = botocore.loaders.Loader()
        self._models = {}

    def problems(self, service, action, body):
        """What the model says against a request; an empty list is a good one."""
        model = self._model(service)
        if action not in model.operation_names:
            return [f"{service} has no action {action}"]
        shape = model.operation_model(action).input_shape
        if model.metadata["protocol"] == "query" or not body.startswith("{"):
            params = from_form(body, shape)
        else:
            params = json.loads(body)
        if shape is None:
            return [f"{action} takes no parameters: {params}"] if params else []
        report = botocore.validate.ParamValidator().validate(params, shape)
        found = [report.generate_report()] if report.has_errors() else []
        return found + list(constraints(params, shape, action))

    def _model(self, service):
        if service not in self._models:
            name = SERVICES[service]
            loaded = self._loader.load_service_model(name, "service-2")
            self._models[service] = botocore.model.ServiceModel(loaded, name)
        return self._models[service]


def constraints(value, shape, path):
    """Enums, greatest lengths and patterns, which botocore leaves to the service."""
    kind = shape.type_name
    if kind == "structure" and isinstance(value, dict):
        for name, member in value.items():
            if name in shape.members:
                yield from constraints(member, shape.members[name], f"{path}.{name}")
    elif kind == "list" and isinstance(value, list):
        for index, member in enumerate(value):
            yield from constraints(member, shape.member, f"{path}[{index}]")
    elif kind == "map" and isinstance(value, dict):
        for name, member in value.items():
            yield from constraints(name, shape.key, f"{path} key")
            yield from constraints(member, shape.value, f"{path}.{name}")
    known = shape.metadata
    if kind == "string" and isinstance(value, str):
        if shape.enum and value not in shape.enum:
            yield f"{path}: {value!r} is none of {', '.join(shape.enum)}"
        if "pattern" in known and not re.fullmatch(pattern(known["pattern"]), value):
            yield f"{path}: {value!r} does not match {known['pattern']}"
    if "max" in known:
        size = len(value) if isinstance(value, (str, list, dict)) else value
        if isinstance(size, (int, float)) and size > known["max"]:
            yield f"{path}: {size} is above {known['max']}"


def pattern(text):
    """The models write characters beyond the first 65,536 as two surrogates."""
    return text.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")


def from_form(body, shape):
    """The parameters of the Query protocol as a structure."""
    pairs = dict(urllib.parse.parse_qsl(body, keep_blank_values=True, strict_parsing=True))
    pairs.pop("Action"), pairs.pop("Version")
    return structure(pairs, shape)


def structure(pairs, shape):
    """Pairs of dotted names, sorted under the members they belong to."""
    members = {}
    for name, value in pairs.items():
        head, _, rest = name.partition(".")
        members.setdefault(head, {})[rest] = value
    read = {}
    for name, inner in members.items():
        member = shape.members.get(name) if shape else None
        read[name] = parsed(inner, member) if member else inner.get("", inner)
    return read


def parsed(pairs, shape):
    """One value from what stands behind its name."""
    kind = shape.type_name
    if kind == "structure":
        return structure(pairs, shape)
    if kind == "list":
        items = numbered(pairs, shape.serialization.get("flattened"), "member")
        return [parsed(item, shape.member) for item in items]
    if kind == "map":
        key = shape.key.serialization.get("name", "key")
        value = shape.value.serialization.get("name", "value")
        entries = numbered(pairs, shape.serialization.get("flattened"), "entry")
        return {
            entry[key]: parsed(
                {rest.partition(".")[2]: text for rest, text in entry.items() if rest.partition(".")[0] == value},
                shape.value,
            )
            for entry in entries
        }
    text = pairs[""]
    if kind in ("integer", "long"):
        return int(text)
    if kind in ("float", "double"):
        return float(text)
    if kind == "boolean":
        return {"true": True, "false": False}[text]
    return text


def numbered(pairs, flattened, word):
    """`member.1.X`, `member.2.X` … as one dictionary a number."""
    items = {}
    for name, value in pairs.items():
        if not flattened:
            head, _, name = name.partition(".")
            if head != word:
                raise ValueError(f"expected {word}, found {head}")
        number, _, rest = name.partition(".")
        items.setdefault(int(number), {})[rest] = value
    return [items[number] for number in sorted(items)]
