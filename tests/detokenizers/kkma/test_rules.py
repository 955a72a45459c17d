"""The rules on a table of Korean inflections."""

import pytest

from korlm.detokenizers.kkma import rules
from korlm.detokenizers.kkma.irregulars import CONTRACTED
from korlm.detokenizers.kkma.rules import MAX_CUT, max_cut, operations


def examples(table: str) -> dict[str, str]:
    """Morphs -> written form."""
    return dict(example.split("=") for example in table.split())


# The first operation: regular stems; ㅂ ㅅ ㄷ ㅎ 르 ㅡ ㄹ 우 여; contractions; bare consonant
# endings; nouns and particles, which do not change.
FIRST = examples(
    """
    먹+어=먹어 굳+어=굳어 벗+어=벗어 좋+아=좋아 따르+아=따라 치르+어=치러
    푸르+었=푸르렀 들어가+아=들어가
    먹+은=먹은 잡+았=잡았 먹+는=먹는 웃+고=웃고 하+고=하고 돕+아=도와 곱+아=고와
    춥+어=추워 무겁+었=무거웠 아름답+어=아름다워 무겁+ㄴ=무거운 돕+ㄹ=도울 춥+ㅁ=추움 짓+어=지어
    낫+아=나아 잇+었=이었 짓+ㄴ=지은 긋+ㄹ=그을 듣+어=들어 걷+었=걸었 깨닫+아=깨달아 싣+ㄴ=실은
    묻+ㄹ=물을 그렇+어=그래 하얗+아=하얘 허옇+어=허예 그렇+ㄴ=그런 노랗+ㄹ=노랄 흐르+어=흘러
    모르+았=몰랐 부르+어서=불러서 쓰+어=써 끄+었=껐 뜨+어=떠 알+는=아는 살+니=사니
    만들+시=만드시 알+ㄴ=안 알+ㄹ=알 알+ㅂ니다=압니다 길+오=기오 알+ㅁ=앎 알+고=알고 알+면=알면
    살+으면=살면 푸+어=퍼 하+여=하여 하+었=했 하+어=해 하+였=하였 가+아=가 가+았=갔 서+었=섰
    켜+어=켜 보내+었=보냈 세+어=세 오+아=와 보+았=봤 주+어=줘 배우+었=배웠 마시+었=마셨
    가지+어=가져 되+어=돼 되+었=됐 가+ㄴ=간 가+ㄹ까=갈까 하+ㅂ니다=합니다 크+ㅁ=큼 먹+ㄴ=먹은
    책+을=책을 학교+에=학교에 집+이=집이 물+은=물은 3+월=3월 KBS+가=KBS가 ㅋ+ㅋ=ㅋㅋ
    한국+어=한국어 나+는=나는 것+을=것을 것+이=것이
    """
)
# Other operations.
ALSO = examples(
    """
    굽+어=굽어
    이르+어=이르러 아프+어=아파 잠그+어=잠가 하+었=하였 하+여=해 보+아=보아
    되+어=되어 주+어=주어 마시+었=마시었 그렇+네=그러네 그렇+으면=그러면
    덥+으면=더우면 짓+으면=지으면 듣+으면=들으면 나+는=난 나+를=날 것+은=건 것+을=걸 것+이=게
    것+ㄹ=걸 나+가=내가 저+의=제 무엇+을=뭘 가능하+게=가능케 말+아=마 쏘+아=쏘아
    """
)
# The copula 이.
COPULA = examples(
    """
    영화+이+어=영화여 영화+이+다=영화다 학생+이+다=학생이다 영화+이+었=영화였 학생+이+었=학생이었
    영화+이+에요=영화예요 학생+이+에요=학생이에요 영화+이+ㄴ데=영화인데 학생+이+ㄴ=학생인
    영화+이+고=영화고 책+이+며=책이며 '증명'+이+라는='증명'이라는
    """
)
COPULA_ALSO = examples(
    """
    영화+이+다=영화이다 영화+이+ㄴ데=영환데 영화+이+었=영화이었 것+이+ㄴ지=건지 터+이+ㄴ데=텐데
    '증명'+이+라는='증명'라는 거+이+ㅂ니다=겁니다
    """
)


def written(example: str) -> list[str]:
    *before, left, right = example.split("+")
    surface = "".join([*before, left])
    return [operation.apply(surface) for operation in operations(surface, left, right)]


@pytest.mark.parametrize(("example", "expected"), [*FIRST.items(), *COPULA.items()])
def test_first_operation(example: str, expected: str) -> None:
    assert written(example)[0] == expected


@pytest.mark.parametrize(("example", "expected"), [*ALSO.items(), *COPULA_ALSO.items()])
def test_other_operations(example: str, expected: str) -> None:
    assert expected in written(example)[1:]


@pytest.mark.parametrize("example", [*FIRST, *ALSO, *COPULA, *COPULA_ALSO])
def test_operations_are_distinct_and_one_is_plain(example: str) -> None:
    forms = written(example)
    assert len(set(forms)) == len(forms)
    assert example.replace("+", "") in forms


@pytest.mark.parametrize(
    "example", [*FIRST, *ALSO, *COPULA, *COPULA_ALSO, *map("+".join, CONTRACTED)]
)
def test_max_cut_is_an_upper_bound(example: str) -> None:
    *before, left, right = example.split("+")
    surface = "".join([*before, left])
    cuts = [operation.cut for operation in operations(surface, left, right)]
    assert max(cuts) <= max_cut(surface, left) <= MAX_CUT


@pytest.mark.parametrize(("surface", "expected"), [("먹", 0), ("돕", 1), ("흐르", 2), ("3", 0)])
def test_reach(surface: str, expected: int) -> None:
    assert max_cut(surface, surface) == expected


def test_max_cut_of_a_last_character_is_that_of_two() -> None:
    lasts = [chr(code) for code in range(ord("가"), ord("힣"), 37)] + list("르하푸돕곱이ㄹㅋA.")
    befores = list("가흐모물푸르러꽃갇A.") + [stem[0] for stem, _ in CONTRACTED]
    for end in [b + last for b in dict.fromkeys(befores) for last in lasts]:
        for left in ("", rules.COPULA):
            assert max_cut(end, left) == rules._max_cut(end, left == rules.COPULA), end
    for stem, _ in CONTRACTED:
        assert max_cut(stem, stem) == rules._max_cut(stem, False)
