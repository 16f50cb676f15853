"""The values of the service's enums as those of the contracts, and back."""

from ordermesh.fulfillment.v1 import fulfillment_pb2

from chassis.values.convert import enum_values
from fulfillment_svc.lifecycle import InspectionRule, Status

STATUS = enum_values(Status, "FULFILLMENT_STATUS", fulfillment_pb2.FulfillmentStatus.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
RULE = enum_values(InspectionRule, "INSPECTION_RULE", fulfillment_pb2.InspectionRule.Value)
NO_STATUS = fulfillment_pb2.FULFILLMENT_STATUS_UNSPECIFIED
NO_RULE = fulfillment_pb2.INSPECTION_RULE_UNSPECIFIED
