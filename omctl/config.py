"""The addresses of the services, from the environment; by default those of `make run`."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.values.actor import PATTERN

SERVICES = ("order", "warehouse", "fulfillment", "shipping", "payment")


class Settings(BaseSettings):
    """Addresses are host:port. A field's environment variable is its name in capitals."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    order_address: str = Field(default="127.0.0.1:15051", description="the order service")
    warehouse_address: str = Field(default="127.0.0.1:15052", description="the warehouse service")
    fulfillment_address: str = Field(
        default="127.0.0.1:15053", description="the fulfilment service"
    )
    shipping_address: str = Field(default="127.0.0.1:15054", description="the shipping service")
    payment_address: str = Field(default="127.0.0.1:15055", description="the payment service")

    ordermesh_actor: str | None = Field(
        default=None,
        pattern=f"^(?:{PATTERN.pattern})$",
        description="the person that you act for, e.g. staff:7f3a: the history of changes names it",
    )

    @property
    def addresses(self) -> dict[str, str]:
        """The services' addresses, by name."""
        return {name: str(getattr(self, f"{name}_address")) for name in SERVICES}
