"""One generated question before it is answered, and the words they are about."""

from __future__ import annotations

from dataclasses import dataclass

_WORDS = """
apple bread brick bring brown candle carry chair cheese circle class clean clear close cloud coat cold copy
corner count cover cream cross dance dark deep delta door draw dream drink early earth east eight empty
engine error even event every field file final find fire first fish five floor flower fold forest form found
four frame free fresh front fruit garden give glass gold good grass great green ground group guide hand
happy heart heavy help high hold home horse hotel house index inside iron island item join keep king kitchen
label large laugh layer learn leave left letter level light line list little local long loop lower lunch
market match meal meet metal middle minute mirror model moment money month morning mountain mouse music name
near never night noise north number object ocean offer often open orange order other page paint paper park
part path pencil people piano picture place plain plant plate point power press price print python quick
quiet radio rain range reach ready return rice river road rock roof room round rule salt sand scale school
score season second seven shape share sharp sheep ship shop short silver simple single sleep slow small
smile snow soft song sound south space speed spring square stack stamp star start state station steam step
stone storm story street string strong sugar summer sweet table tail take tall task taste teach test thick
thin third three ticket tiger time title token total touch tower town track train travel tree true trust
under unit upper value village voice wait walk wall warm watch water wave west wheel white whole wide wind
window winter wish wood word work world write yellow young zero
"""
WORDS = tuple(_WORDS.split())


@dataclass(frozen=True)
class Problem:
    """A question in words, the Python expression whose printed value answers it, and what kind of question it is."""

    question: str
    expression: str
    kind: str
