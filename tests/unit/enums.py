"""Reads the contracts' enums. No tests here."""

from google.protobuf.descriptor import EnumDescriptor


def value_names(enum: EnumDescriptor) -> set[str]:
    """Returns the enum's names without their prefix, without UNSPECIFIED."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix) for value in enum.values if value.number}
