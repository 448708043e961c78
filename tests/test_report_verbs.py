"""Verbs and objects of instructions: right for most, none where there is none."""

import time

import pytest

from magpie_steps.report.verbs import Verb, top_verbs, verb_and_object

GOLD = """
Create a weekly meal plan for a vegetarian family of four.|create|plan
I'm looking to buy a new laptop for video editing.|buy|laptop
Identify the main themes in the novel 1984.|identify|theme
Could you help me understand the concept of recursion?|understand|concept
What steps should I take to start a podcast?|take|
Develop a marketing strategy for a small bakery.|develop|strategy
Translate "Good morning" into Japanese.|translate|morning
How would you handle a difficult customer?|handle|customer
Edit the following paragraph for grammar and clarity.|edit|paragraph
Build a regression model that predicts house prices.|build|model
Discuss the impact of social media on teenagers.|discuss|impact
Implement a binary search tree in C++.|implement|tree
Can a vegetarian diet provide enough protein?|provide|protein
Tell me a bedtime story.|tell|story
Evaluate the integral of x squared from 0 to 1.|evaluate|integral
Classify these animals as mammals or reptiles.|classify|animal
Who invented the telephone?|invent|telephone
Give an example of a metaphor.|give|example
Prepare a presentation on climate change.|prepare|presentation
I would like to know how to fix a leaky faucet.|fix|faucet
Paraphrase the sentence below.|paraphrase|sentence
Determine whether the number 97 is prime.|determine|
Make a list of pros and cons of remote work.|make|list
Compose a haiku about autumn.|compose|haiku
Show me how to tie a tie.|show|
Refactor this class to use dependency injection.|refactor|class
Predict the next number in the sequence.|predict|number
When did World War II end?|end|
Role-play a job interview with me.|role-play|interview
Answer the following riddle.|answer|riddle
My car won't start. Please diagnose the problem.|start|
Arrange the words in alphabetical order.|arrange|word
Count the vowels in the word banana.|count|vowel
Choose a superpower and explain your choice.|choose|superpower
Extract all email addresses from the text.|extract|address
As an expert in finance, explain compound interest.|explain|interest
Check this code for errors.|check|code
Propose a solution to traffic congestion.|propose|solution
Continue the story.|continue|story
What do bees eat?|eat|
Simplify the fraction 18/24.|simplify|fraction
Please review my resume.|review|resume
Hi, I need help writing a cover letter.|need|help
Visualize the data with a bar chart.|visualize|data
Do you know any good jokes?|know|joke
Act as a travel guide.|act|
Illustrate the water cycle with a simple diagram.|illustrate|cycle
Organize my schedule for tomorrow.|organize|schedule
Recommend some movies similar to Inception.|recommend|movie
Start a debate about school uniforms.|start|debate
Estimate how many tennis balls fit in a bus.|estimate|
You are a pirate. Tell me a joke about parrots.|tell|joke
For a school project, I need to build a volcano.|build|volcano
"""
"""Instructions with the verb and the object that a reader would name."""

PAIRS = [line.split("|") for line in GOLD.strip().splitlines()]


def test_most_verbs_and_objects_are_those_that_a_reader_names():
    found = [verb_and_object(text) for text, _, _ in PAIRS]
    verbs = sum(one == verb for (one, _), (_, verb, _) in zip(found, PAIRS, strict=True))
    nouns = sum(two == noun for (_, two), (_, _, noun) in zip(found, PAIRS, strict=True))
    assert len(PAIRS) >= 50
    assert verbs / len(PAIRS) >= 0.88  # measured 0.92
    assert nouns / len(PAIRS) >= 0.85  # measured 0.91


@pytest.mark.parametrize(
    ("text", "verb", "noun"),
    [
        ("Write a short story about a dragon.", "write", "story"),
        ("Can you write a short story?", "write", "story"),
        ("I want to write a short story.", "write", "story"),
        ("I'd like you to write short stories", "write", "story"),
        ("Please write a story!", "write", "story"),
        ("Hello! How do I write a story?", "write", "story"),
        ("Given a list of numbers, return the sum.", "return", "sum"),
        ("List five ways to save money.", "list", "way"),
        ("Debug the following code: print(x", "debug", "code"),
        ("Don’t use adjectives.", "use", "adjective"),
        ("Use this: ```python\nwrite(a_story)\n```", "use", ""),
    ],
)
def test_what_is_wanted_counts(text, verb, noun):
    assert verb_and_object(text) == (verb, noun)


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "Are there any good restaurants near the museum?",
        "Is it possible to learn to code in a month?",
        "Schreibe ein Gedicht über den Herbst.",
        "Écris un poème sur l'automne.",
        "Escribe una historia corta sobre un dragón.",
        "Что такое фотосинтез?",
        "请写一首关于春天的诗。",
        "日本の首都はどこですか？",
        *("", "  \n", "!!!", "x^2+3x=4", "```python\nprint(1)\n```", "\ud800", "\u202e"),
    ],
)
def test_where_there_is_no_english_verb_there_is_none(text):
    assert verb_and_object(text) == ("", "")


def test_the_most_frequent_come_first_and_equal_ones_in_the_order_of_words():
    texts = [
        *["Write a story."] * 3,
        *["Write a poem."] * 2,
        "Write an essay.",
        "Write a letter.",
        *["Explain gravity."] * 2,
        *["Create a logo."] * 2,
        "What is love?",
    ]
    assert top_verbs(texts, verbs=3, objects=3) == [
        Verb("write", 7, (("story", 3), ("poem", 2), ("essay", 1))),
        Verb("create", 2, (("logo", 2),)),
        Verb("explain", 2, (("gravity", 2),)),
    ]
    assert [verb.verb for verb in top_verbs(iter(texts), verbs=1)] == ["write"]
    assert top_verbs(texts, objects=0)[0] == Verb("write", 7, ())
    assert top_verbs([]) == []


HOSTILE = {
    "letters": "a" * 50_000,
    "words": "a " * 25_000,
    "ticks": "`" * 50_000,
    "addresses": "http://" * 8000,
    "not": "n't" * 16_000,
    "hyphens": "a-" * 25_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_takes_long(name):
    verb_and_object("Load the tagger.")
    start = time.process_time()
    verb_and_object(HOSTILE[name])
    assert time.process_time() - start < 1.0  # measured 0.01
