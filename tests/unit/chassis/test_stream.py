"""Which subject an event has, and which stream holds it."""

import pytest

from chassis.values.event_subjects import STREAMS, stream_of, subject_of
from tests.sample.events import SamplePaid, SampleSilent, SampleStatusChanged


def test_an_event_names_its_subject() -> None:
    """The contract says where an event is published: an option of its message."""
    assert subject_of(SampleStatusChanged) == "orders.sample.status_changed"
    assert subject_of(SamplePaid) == "payments.sample.paid"


def test_a_message_that_is_no_event_is_refused() -> None:
    """Whoever tries to publish it hears so at once."""
    with pytest.raises(TypeError, match="SampleSilent names no subject"):
        subject_of(SampleSilent)


@pytest.mark.parametrize(("name", "subjects"), STREAMS.items())
def test_a_stream_holds_all_below_its_first_token(name: str, subjects: str) -> None:
    """The first token of a subject tells the stream."""
    assert stream_of(subjects.replace(">", "sample.noted")) == name


@pytest.mark.parametrize("subject", ["nobody.sample.noted", "ordersx.sample", "", "sample.orders"])
def test_a_subject_that_no_stream_holds_is_refused(subject: str) -> None:
    """There is no stream for everything else."""
    with pytest.raises(LookupError):
        stream_of(subject)
