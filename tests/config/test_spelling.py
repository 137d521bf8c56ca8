from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config.spelling import did_you_mean, nearest

WORDS = ["learning_rate", "local_steps", "momentum", "raspberry-pi-4"]


def test_the_nearest_word_is_found_over_case_and_dashes():
    assert nearest("learing_rate", WORDS) == "learning_rate"
    assert nearest("Momentun", WORDS) == "momentum"
    assert nearest("raspberry_pi_4", WORDS) == "raspberry-pi-4"


def test_of_words_that_differ_in_case_alone_that_of_the_same_case_is_nearest():
    assert nearest("strips", ["Stripes", "stripes"]) == "stripes"
    assert nearest("Strips", ["stripes", "Stripes"]) == "Stripes"


def test_a_word_far_from_all_has_no_nearest():
    assert nearest("xyzzy", WORDS) is None
    assert nearest("momentum", []) is None
    assert did_you_mean("xyzzy", WORDS) == ""
    assert did_you_mean("momentm", WORDS) == "; did you mean momentum?"


@given(st.lists(st.text(min_size=1), min_size=1, unique=True), st.data())
def test_a_word_of_the_list_is_as_near_as_any(words, data):
    word = data.draw(st.sampled_from(words))
    found = nearest(word, words)
    assert found is not None
    assert found.lower().replace("-", "_") == word.lower().replace("-", "_")


def test_very_long_words_are_compared_by_their_beginning():
    assert nearest("learning_rate" + " " * 1_000_000, ["learning_rate"]) is None
    assert nearest("a" * 1_000_000, ["a" * 100]) == "a" * 100
