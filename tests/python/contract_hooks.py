"""What Schemathesis does not know by itself: lines of JSON."""

import json

import jsonschema_rs
import schemathesis

NDJSON = "application/x-ndjson"


def is_text(case):
    return isinstance(case.body, str) or case.media_type != NDJSON


@schemathesis.hook
def filter_case(context, case):
    """Whatever else stands for a text that is wrong would be sent as one that is right: a line that is no number is answered
    too."""
    return is_text(case)


@schemathesis.serializer(NDJSON)
def lines_as_they_are(context, value):
    return value.encode()


@schemathesis.deserializer(NDJSON)
def last_line(context, response):
    """Every line is as the contract has it, and the last one, which is looked at further, counts them."""
    contract = context.operation.schema.raw_schema
    line = {"$ref": "#/components/schemas/AnswerLine", "components": contract["components"]}
    validator = jsonschema_rs.validator_for(line)
    *lines, last = map(json.loads, response.content.splitlines())
    for line in lines:
        validator.validate(line)
    assert last == {"done": True, "count": len(lines)}, last
    return last
