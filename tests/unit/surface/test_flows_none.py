"""No flow is an answer that says why."""

from dataclasses import replace

import pytest
from surface_moments import configured, document, moment

from sluicegate_agent.control.questions import FlowQuestion
from sluicegate_agent.datapath.flowquery import FlowDump, FlowState
from sluicegate_agent.datapath.protocol import Counters, Traffic
from sluicegate_agent.reports.flows import flows_document
from sluicegate_agent.reports.situation import Programs, Situation


def seen(situation: Situation) -> Situation:
    frontends = dict.fromkeys(situation.desired.names.frontends, Traffic(5, 500, 5, 500, 1))
    return replace(situation, counters=Counters(frontends=frontends))


@pytest.mark.parametrize(
    ("situation", "question", "dump", "words"),
    [
        (moment(configured(document())), {}, FlowDump(), "no packet for any VIP was ever seen on eth0"),
        (seen(moment(configured(document()))), {}, FlowDump(), "no flow is open"),
        (moment(configured(document())), {"protocol": "udp"}, FlowDump(), "leave out a filter"),
        (moment(configured()), {}, FlowDump(), "no VIP is balanced"),
        (moment(configured(document()), programs=Programs()), {}, FlowDump(), "the programs are not loaded yet"),
        (moment(configured(document())), {}, FlowDump(states={FlowState.CLOSED: 9}), "in others: 9 closed"),
    ],
)
def test_the_note_says_why(situation: Situation, question: dict[str, str], dump: FlowDump, words: str) -> None:
    answer = flows_document(situation, FlowQuestion.parse(question), dump)
    assert answer["flows"] == []
    assert words in str(answer["note"])
