//! Every choice shows in the text, and the probabilities are what is counted.

use limbeck_random::Stream;

use super::{
    super::{
        facts::Facts,
        pen::{Choices, Pen},
        story::{Story, introduce, tell},
    },
    Split, stories,
};

/// Plays given options and then always the first possible one; remembers all that was offered.
#[derive(Default)]
struct Script {
    planned: Vec<usize>,
    /// (option taken, weights, bytes written before)
    made: Vec<(usize, Vec<u32>, usize)>,
}

impl Choices for Script {
    fn choose(&mut self, weights: &[u32], _total: u64, written: usize) -> usize {
        let first = || weights.iter().position(|weight| *weight > 0).unwrap_or(0);
        let taken = self.planned.get(self.made.len()).copied().unwrap_or_else(first);
        self.made.push((taken, weights.to_vec(), written));
        taken
    }
}

impl Script {
    /// The next sequence of choices in lexicographic order among those that differ within the first `kept` bytes.
    fn next(mut self, kept: usize) -> Option<Script> {
        while let Some((taken, weights, written)) = self.made.pop() {
            let later = (taken + 1..weights.len()).find(|option| weights[*option] > 0);
            if let Some(option) = later.filter(|_| written <= kept) {
                let mut planned: Vec<_> = self.made.iter().map(|(taken, ..)| *taken).collect();
                planned.push(option);
                return Some(Script { planned, made: Vec::new() });
            }
        }
        None
    }
}

/// Every text of a grammar with its -ln p.
fn enumerate(grammar: impl Fn(&mut Pen)) -> Vec<(String, f64)> {
    let (mut texts, mut script) = (Vec::new(), Some(Script::default()));
    while let Some(mut current) = script {
        let mut pen = Pen::new(&mut current);
        grammar(&mut pen);
        texts.push((pen.take(), pen.nats()));
        script = current.next(usize::MAX);
    }
    texts
}

/// -ln p of every sequence of choices that gives `text`: all are tried, up to the first byte that differs.
fn derivations(text: &str, grammar: impl Fn(&mut Pen)) -> Vec<f64> {
    let (mut found, mut script) = (Vec::new(), Some(Script::default()));
    while let Some(mut current) = script {
        let mut pen = Pen::new(&mut current);
        grammar(&mut pen);
        let (nats, written) = (pen.nats(), pen.take());
        if written == text {
            found.push(nats);
        }
        let same = written.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        script = current.next(same);
    }
    found
}

type Scene = fn(&mut Story);

/// A state in which `scene` is possible: things, company and money are there.
fn in_the_middle(facts: &Facts, pen: &mut Pen, scene: impl Fn(&mut Story)) {
    let hero = 17;
    let mut story = Story::new(facts, pen, hero);
    story.coins = 43;
    story.company = Some(5);
    story.cast.push(5);
    story.food = Some((2, 4));
    for (thing, colour) in [(11, "red"), (23, "grey")] {
        story.items.push(super::super::story::Item { thing, colour, holder: Some(hero) });
    }
    scene(&mut story);
}

#[test]
fn probabilities_of_every_part_sum_to_one_over_different_texts() {
    let facts = Facts::new();
    let scenes: [(&str, Scene); 11] = [
        ("explain_the_day", |story| story.explain_the_day()),
        ("set_out", |story| story.set_out()),
        ("wish", |story| story.wish()),
        ("buy_food", |story| story.buy_food()),
        ("eat", |story| story.eat()),
        ("work", |story| story.work()),
        ("give", |story| story.give()),
        ("lose", |story| story.lose()),
        ("talk", |story| story.talk()),
        ("meet", |story| story.meet()),
        ("tell_of_the_pet", |story| story.tell_of_the_pet()),
    ];
    let mut parts: Vec<(&str, Vec<(String, f64)>)> =
        scenes.map(|(name, scene)| (name, enumerate(|pen| in_the_middle(&facts, pen, scene)))).into();
    parts.push(("introduce", enumerate(|pen| assert!(introduce(&facts, pen) < facts.people.len()))));
    parts.push(("wish and shop", enumerate(|pen| in_the_middle(&facts, pen, |story| (story.wish(), story.shop()).0))));
    for (name, mut texts) in parts {
        let total: f64 = texts.iter().map(|(_, nats)| (-nats).exp()).sum();
        assert!((total - 1.0).abs() < 1e-9, "{name}: {total}");
        let all = texts.len();
        texts.sort_by(|a, b| a.0.cmp(&b.0));
        texts.dedup_by(|a, b| a.0 == b.0);
        assert!(all > 2 && texts.len() == all, "{name}: {} texts by {all} sequences of choices", texts.len());
    }
}

#[test]
fn every_story_has_exactly_one_sequence_of_choices() {
    let facts = Facts::new();
    for story in stories(Split::Train, 25) {
        let found = derivations(&story.text, |pen| tell(&facts, pen));
        assert_eq!(found, [story.nats], "{}", story.text);
    }
}

/// Negative control of the test above.
#[test]
fn a_choice_that_does_not_show_is_found() {
    let hidden = |pen: &mut Pen| {
        let word = ["one", "one", "two"][pen.choose(&[1, 1, 2])];
        pen.say(word);
    };
    assert_eq!(derivations("One", hidden).len(), 2);
    assert_eq!(derivations("Two", hidden).len(), 1);
    assert_eq!(derivations("Three", hidden).len(), 0);
}

#[test]
fn options_are_drawn_by_their_weights() {
    let weights = [1_u32, 0, 2, 30, 7];
    let mut counts = [0.0; 5];
    let mut random = Stream::new(11);
    for _ in 0..40_000 {
        counts[random.choose(&weights, 40, 0)] += 1.0;
    }
    let expected = weights.map(|weight| 1000.0 * f64::from(weight));
    assert_eq!(counts[1], 0.0);
    let chi_squared: f64 =
        [0, 2, 3, 4].map(|i| (counts[i] - expected[i]) * (counts[i] - expected[i]) / expected[i]).iter().sum();
    assert!(chi_squared < 16.27, "{chi_squared} exceeds the 99.9 % quantile for 3 degrees of freedom");
}

/// E[1 / p] over samples of p is the number of texts: wrong probabilities would miss it.
#[test]
fn the_mean_inverse_probability_counts_the_texts() {
    let facts = Facts::new();
    let mut random = Stream::new(5);
    let samples = 200_000;
    let inverse = |_| {
        let mut pen = Pen::new(&mut random);
        introduce(&facts, &mut pen);
        pen.nats().exp()
    };
    let mean = (0..samples).map(inverse).sum::<f64>() / f64::from(samples);
    // Four templates, 96 people. 1/p is at most 1,600, so the mean's deviation is below 1 in 384.
    assert!((mean - 384.0).abs() < 4.0, "{mean}");
}
