"""The subject of an event, and the stream of a subject."""

import pytest

from chassis.values.event_subjects import STREAMS, stream_of, subject_of
from tests.sample.events import SamplePaid, SampleSilent, SampleStatusChanged


def test_event_names_its_subject() -> None:
    """An option of an event's message is the subject that it is published on."""
    assert subject_of(SampleStatusChanged) == "orders.sample.status_changed"
    assert subject_of(SamplePaid) == "payments.sample.paid"


def test_message_that_is_no_event_is_refused() -> None:
    """The publisher gets the error at once."""
    with pytest.raises(TypeError, match="SampleSilent names no subject"):
        subject_of(SampleSilent)


@pytest.mark.parametrize(("name", "subjects"), STREAMS.items())
def test_stream_holds_all_below_its_first_token(name: str, subjects: str) -> None:
    """The first token of a subject determines its stream."""
    assert stream_of(subjects.replace(">", "sample.noted")) == name


@pytest.mark.parametrize("subject", ["foreign.sample.noted", "ordersx.sample", "", "sample.orders"])
def test_subject_that_no_stream_holds_is_refused(subject: str) -> None:
    """A subject of any other token has no stream."""
    with pytest.raises(LookupError):
        stream_of(subject)
