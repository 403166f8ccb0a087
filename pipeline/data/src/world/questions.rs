//! Questions with one right answer.

use super::{
    Split,
    facts::Facts,
    hash,
    pen::Pen,
    relations::Relation,
    words::{capitalized, coins, counted, indefinite},
};

/// One combination in this many is held out of the training conversations.
const HELD_OUT_COMBINATIONS: u64 = 8;

/// A question, its answers, and what they combine.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) ask: String,
    /// The answer as a sentence.
    pub(super) answer: String,
    /// The answer in as few words as possible.
    pub(super) brief: String,
    /// The combination that is asked for.
    pub(super) asked: String,
    /// Other combinations that question or answer show.
    pub(super) shown: Vec<String>,
    /// Whom the next question can be about without naming them.
    pub(super) subject: Option<(usize, Relation)>,
}

impl Question {
    /// Whether the split may ask this: training nothing that is held out, validation only what is.
    pub(super) fn fits(&self, split: Split) -> bool {
        match split {
            Split::Train => !is_held_out(&self.asked) && !self.shown.iter().any(|shown| is_held_out(shown)),
            Split::Valid => is_held_out(&self.asked),
        }
    }

    pub(super) fn new(asked: String, ask: String, answer: String, brief: String) -> Question {
        Question { ask, answer, brief: capitalized(&brief), asked, shown: Vec::new(), subject: None }
    }
}

fn is_held_out(combination: &str) -> bool {
    hash(combination).is_multiple_of(HELD_OUT_COMBINATIONS)
}

/// Kinds of questions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Person,
    Sum,
    Difference,
    Price,
    Change,
    Material,
    Distance,
    Consequence,
    Reason,
    Holder,
    Count,
}

impl Kind {
    /// Every kind, weighted.
    pub(super) const ALL: [(u32, Kind); 11] = [
        (6, Kind::Person),
        (4, Kind::Sum),
        (4, Kind::Difference),
        (2, Kind::Price),
        (2, Kind::Change),
        (1, Kind::Material),
        (1, Kind::Distance),
        (2, Kind::Consequence),
        (2, Kind::Reason),
        (5, Kind::Holder),
        (4, Kind::Count),
    ];

    /// Draws a question of this kind, of either split.
    pub(super) fn draw(self, facts: &Facts, pen: &mut Pen) -> Question {
        match self {
            Kind::Person => {
                let person = pen.rank(facts.people.len(), 0);
                Question::of_person(facts, person, *pen.pick(&Relation::ALL))
            }
            Kind::Sum => sum(pen),
            Kind::Difference => difference(pen),
            Kind::Price => price(facts, pen),
            Kind::Change => change(facts, pen),
            Kind::Material => material(facts, pen),
            Kind::Distance => distance(facts, pen),
            Kind::Consequence => consequence(facts, pen),
            Kind::Reason => reason(facts, pen),
            Kind::Holder => holder(facts, pen),
            Kind::Count => count(facts, pen),
        }
    }
}

/// `a + b = c` and `c - b = a` are one combination.
fn addends(a: u32, b: u32) -> String {
    format!("sum {} {}", a.min(b), a.max(b))
}

/// Two numbers from 1 whose sum has at most two digits.
fn draw_addends(pen: &mut Pen) -> (u32, u32) {
    let a = 1 + pen.choose(&[1; 98]) as u32;
    (a, 1 + pen.choose(&vec![1; 99 - a as usize]) as u32)
}

fn sum(pen: &mut Pen) -> Question {
    let (a, b) = draw_addends(pen);
    let ask = pen.pick(&[(3, "What is"), (1, "How much is"), (1, "Please tell me, what is")]);
    let ask = format!("{ask} {a} plus {b}?");
    Question::new(addends(a, b), ask, format!("{a} plus {b} is {}.", a + b), format!("{}.", a + b))
}

fn difference(pen: &mut Pen) -> Question {
    let (a, b) = draw_addends(pen);
    let ask = pen.pick(&[(3, "What is"), (1, "How much is")]);
    let ask = format!("{ask} {} minus {b}?", a + b);
    Question::new(addends(a, b), ask, format!("{} minus {b} is {a}.", a + b), format!("{a}."))
}

/// (thing, place, price)
fn draw_good(facts: &Facts, pen: &mut Pen) -> (usize, usize, u32) {
    let place = pen.rank(facts.places.len(), 0);
    let goods = &facts.places[place].goods;
    let (thing, price) = goods[pen.choose(&vec![1; goods.len()])];
    (thing, place, price)
}

fn price_of(thing: &str, place: &str) -> String {
    format!("price {thing} {place}")
}

fn price(facts: &Facts, pen: &mut Pen) -> Question {
    let (thing, place, price) = draw_good(facts, pen);
    let (thing, place, price) = (facts.things[thing].name, facts.places[place].name, coins(price));
    let a = indefinite(thing);
    let ask = match pen.choose(&[2, 1]) {
        0 => format!("What does {a} cost in {place}?"),
        _ => format!("How much is {a} in {place}?"),
    };
    let answer = format!("{} costs {price} in {place}.", capitalized(&a));
    Question::new(price_of(thing, place), ask, answer, format!("{price}."))
}

/// A price from memory and a difference.
fn change(facts: &Facts, pen: &mut Pen) -> Question {
    let (thing, place, price) = draw_good(facts, pen);
    let (thing, place) = (facts.things[thing].name, facts.places[place].name);
    let name = facts.people[pen.rank(facts.people.len(), 0)].name;
    let left = 1 + pen.choose(&vec![1; 99 - price as usize]) as u32;
    let a = indefinite(thing);
    let ask = format!("{name} has {} and buys {a} in {place}. How much does {name} keep?", coins(left + price));
    let answer = format!("{} costs {}, so {name} keeps {}.", capitalized(&a), coins(price), coins(left));
    let question = Question::new(addends(price, left), ask, answer, format!("{}.", coins(left)));
    Question { shown: vec![price_of(thing, place)], ..question }
}

fn material(facts: &Facts, pen: &mut Pen) -> Question {
    let thing = &facts.things[pen.rank(facts.things.len(), 0)];
    let a = indefinite(thing.name);
    let ask = match pen.choose(&[2, 1]) {
        0 => format!("What is {a} made of?"),
        _ => format!("What do people make {} of?", thing.plural),
    };
    let answer = format!("{} is made of {}.", capitalized(&a), thing.material);
    Question::new(format!("material {}", thing.name), ask, answer, format!("{}.", thing.material))
}

/// The way there and the way back are two combinations: whoever knows one can tell the other.
fn distance(facts: &Facts, pen: &mut Pen) -> Question {
    let from = pen.rank(facts.places.len(), 0);
    let others: Vec<usize> = (0..facts.places.len()).filter(|place| *place != from).collect();
    let to = others[pen.rank(others.len(), from)];
    let way = counted(facts.miles(from, to), "mile", "miles");
    let (from, to) = (facts.places[from].name, facts.places[to].name);
    let ask = format!("How far is it from {from} to {to}?");
    Question::new(format!("way {from} {to}"), ask, format!("It is {way} from {from} to {to}."), format!("{way}."))
}

/// A cause and what follows at once: the first or the second link of a chain.
fn draw_link(facts: &Facts, pen: &mut Pen) -> (&'static str, &'static str) {
    let chain = &facts.chains[pen.rank(facts.chains.len(), 0)];
    match pen.choose(&[3, 1]) {
        0 => (chain.cause.present, chain.effect.present),
        _ => (chain.effect.present, chain.outcome.present),
    }
}

fn consequence(facts: &Facts, pen: &mut Pen) -> Question {
    let (cause, effect) = draw_link(facts, pen);
    let ask = match pen.choose(&[2, 1]) {
        0 => format!("What happens if {cause}?"),
        _ => format!("{}. What follows?", capitalized(cause)),
    };
    Question::new(format!("if {cause}"), ask, format!("If {cause}, {effect}."), format!("{effect}."))
}

fn reason(facts: &Facts, pen: &mut Pen) -> Question {
    let (cause, effect) = draw_link(facts, pen);
    let ask = format!("{}. Why?", capitalized(effect));
    let answer = format!("{}, because {cause}.", capitalized(effect));
    Question::new(format!("because {effect}"), ask, answer, format!("because {cause}."))
}

/// Three people, two things, two to four gifts, and who has one of the things then.
fn holder(facts: &Facts, pen: &mut Pen) -> Question {
    let people = draw_distinct::<3>(pen, facts.people.len()).map(|index| facts.people[index].name);
    let things = draw_distinct::<2>(pen, facts.things.len()).map(|index| facts.things[index].name);
    let mut holders = [0, 1];
    let mut ask = format!("{} has the {}. {} has the {}.", people[0], things[0], people[1], things[1]);
    let has = |person: usize, thing: usize| format!("has {} {}", people[person], things[thing]);
    let mut shown = vec![has(0, 0), has(1, 1)];
    for _ in 0..2 + pen.choose(&[3, 2, 1]) {
        let thing = pen.choose(&[1, 1]);
        let to = (holders[thing] + 1 + pen.choose(&[1, 1])) % people.len();
        ask += &format!(" {} gives the {} to {}.", people[holders[thing]], things[thing], people[to]);
        holders[thing] = to;
        shown.push(has(to, thing));
    }
    let thing = pen.choose(&[1, 1]);
    let (holder, name) = (people[holders[thing]], things[thing]);
    ask += &format!(" Who has the {name} now?");
    let answer = format!("{holder} has the {name}.");
    Question { shown, ..Question::new(has(holders[thing], thing), ask, answer, format!("{holder}.")) }
}

fn draw_distinct<const N: usize>(pen: &mut Pen, count: usize) -> [usize; N] {
    let mut drawn = [usize::MAX; N];
    for slot in 0..N {
        let fresh = |index| u32::from(!drawn.contains(&index));
        let weights: Vec<u32> = (0..count).map(fresh).collect();
        drawn[slot] = pen.choose(&weights);
    }
    drawn
}

/// A sum and a difference in words.
fn count(facts: &Facts, pen: &mut Pen) -> Question {
    let [owner, giver] = draw_distinct(pen, facts.people.len()).map(|index| &facts.people[index]);
    let food = &facts.foods[pen.rank(facts.foods.len(), 0)];
    let [had, more] = [0; 2].map(|_| 2 + pen.choose(&[1; 8]) as u32);
    let eaten = 1 + pen.choose(&vec![1; (had + more) as usize - 1]) as u32;
    let left = counted(had + more - eaten, food.name, food.plural);
    let (name, plural) = (owner.name, food.plural);
    let (object, subject) = (owner.pronoun.object, owner.pronoun.subject);
    let ask = format!(
        "{name} had {had} {plural}. {} gave {object} {more} more, and {subject} ate {eaten}. How many {plural} does \
         {name} have now?",
        giver.name
    );
    let combination = format!("count {had} {more} {eaten}");
    Question::new(combination, ask, format!("{name} has {left}."), format!("{left}."))
}
