"""From where on a figure is worth a warning or an error: all of the doctor's thresholds.

Where a source is named, it gives the figure or the phenomenon; the others were set on invented data
with planted faults and then held against the real datasets of `benchmarks/results/doctor.md`, so
that each error there is true.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Shares are from 0 to 1; a skill is 0 for guessing and 1 for always right.

    min_examples: statistics over fewer examples are not drawn: at 200 examples, two standard errors
        of an accuracy are 7 points, the most that leaves a finding of this file meaning anything.
    min_rows: a column's being constant, or a label's absence, means nothing in fewer rows.

    few: fewer rows than these are a curiosity, whatever their share.
    common_fault: from this share of rows on a blemish (odd characters, contradicting duplicates,
        options twice) is a warning, below it a note. No dataset is free of them: Northcutt et al.
        2021 ("Pervasive label errors") find 3.3 % wrong labels on average in test sets in wide use.
    mostly_empty: a used column that is empty in as many rows is rather a wrong column.
    mostly_dropped: a filter that drops as many rows may be a filter on the wrong value.
    majority: an accuracy of 0.8 for always answering the same hides what a model learns.
    often_cut: an input that is cut this often calls for more tokens; a rare one does not.
    same_position: as many answers at one position; 0.6 is far from any shuffled order of options.

    duplicates_error, duplicates_warning: share of evaluation examples whose input is in training.
        A tenth moves an accuracy by several points, a hundredth by less than seeds do. Elangovan et
        al. 2021 ("Memorization vs. Generalization") measure such overlap in common test sets.
    same_number: two numbers for one input contradict each other from this share of the scale on,
        one point of the five of STS-B.

    predictable_alone: a field that by itself gives this skill makes the others dispensable. 67 % of
        SNLI is right from the hypothesis alone, a skill of 0.5 (Gururangan et al. 2018; Poliak et
        al. 2018 have more datasets). Half of that is what a few thousand rows let words learn.
    predictable_error_sd: and it has to be this many standard errors above guessing.
    too_easy: words alone are never as good on a task of meaning; a field shows the label.
    little_skill: what inputs have when they hardly tell the label.
    leak_skill: an unused text of which words alone give this skill was written after the label,
        such as an explanation, and is rightly unused. Premises, questions and passages of the real
        datasets have 0.0 to 0.35; no real explanations were at hand.
    some_leak_skill: from here on it may be either, and a missing text is no more than a warning.
    gain_p: McNemar's test (1947) of what an unused text adds, one-sided; strict, since each unused
        text of each task is tested.
    gain: and the skill that it adds.

    text_words: median words from which a column is a text, not a name or a category.
    as_long: an unused text that is at least this long, as a share of the inputs, is no remark.
    related: how often an unused text is more like its own row's inputs than like another row's (0.5
        by chance). Names, titles and categories of the real datasets have 0.48 to 0.62, texts
        taken out of the inputs on purpose 0.78 to 1.0; but questions, taken from options that
        share few words with them, 0.55 to 0.79.
    questions: share of texts that end with a question mark, which are there to be read whatever
        words they share.
    distinct: share of different texts from which an unused column could be a field that is the same
        in all inputs as they are.
    contained: an unused text of which this share of words is in the inputs adds nothing to them.
    """

    min_examples: int = 200
    min_rows: int = 50

    few: int = 3
    common_fault: float = 0.01
    mostly_empty: float = 0.5
    mostly_dropped: float = 0.5
    majority: float = 0.8
    often_cut: float = 0.1
    same_position: float = 0.6

    duplicates_error: float = 0.1
    duplicates_warning: float = 0.01
    same_number: float = 0.2

    predictable_alone: float = 0.25
    predictable_error_sd: float = 4.0
    too_easy: float = 0.98
    little_skill: float = 0.2
    leak_skill: float = 0.6
    some_leak_skill: float = 0.3
    gain_p: float = 0.001
    gain: float = 0.03

    text_words: int = 5
    as_long: float = 0.8
    related: float = 0.7
    questions: float = 0.7
    distinct: float = 0.5
    contained: float = 0.9
