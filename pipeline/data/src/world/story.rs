//! The grammar of a story: an opening, scenes that change the state of the world, and a closing that tells the state.

use super::{
    facts::{Facts, Person},
    pen::{Pen, zipf},
    scenes::Scene,
    words::{coins, counted, indefinite, listed},
};

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const POUCHES: [&str; 4] = ["purse", "pocket", "drawer", "old jar"];
/// Each thing has its usual colours: the ranks are rotated by thing.
const COLOURS: [&str; 12] =
    ["red", "blue", "green", "white", "black", "yellow", "brown", "grey", "purple", "striped", "spotted", "plain"];
/// Most coins that anybody has, so that every sum has two digits.
pub(super) const MOST_COINS: u32 = 99;
const FEWEST_SCENES: usize = 1;
const MOST_SCENES: usize = 4;

/// One of the things that a story follows. No two are of the same kind, so `the red scarf` is always one thing.
pub(super) struct Item {
    pub(super) thing: usize,
    pub(super) colour: &'static str,
    /// Who has it; `None` when it is lost.
    pub(super) holder: Option<usize>,
}

/// A story and what is true at this point of it.
pub(super) struct Story<'f, 'p, 'c> {
    pub(super) facts: &'f Facts,
    pub(super) pen: &'p mut Pen<'c>,
    pub(super) hero: usize,
    pub(super) place: usize,
    pub(super) coins: u32,
    /// What the hero wants and has not got.
    pub(super) wish: Option<Item>,
    /// The hero has gone shopping for the wish.
    pub(super) shopped: bool,
    pub(super) items: Vec<Item>,
    /// Everybody who takes part.
    pub(super) cast: Vec<usize>,
    /// Who is with the hero.
    pub(super) company: Option<usize>,
    /// (food, pieces): what the hero bought, and what is left of it.
    pub(super) food: Option<(usize, u32)>,
    /// (person, coins): what the hero owes.
    pub(super) debt: Option<(usize, u32)>,
    pub(super) pet_told: bool,
    pub(super) facts_told: usize,
    /// Cause and effect that the opening told.
    chain: Option<usize>,
}

/// Writes one story.
pub(super) fn tell(facts: &Facts, pen: &mut Pen) {
    let hero = introduce(facts, pen);
    let mut story = Story::new(facts, pen, hero);
    story.set_out();
    story.explain_the_day();
    story.wish();
    for scene in 0..MOST_SCENES {
        let end = if scene < FEWEST_SCENES { 0 } else { 3 * (scene as u32) };
        match Scene::next(&mut story, end) {
            Some(scene) => scene.tell(&mut story),
            None => return story.close(),
        }
    }
    story.close();
}

/// The first sentence: who, what, where.
pub(super) fn introduce(facts: &Facts, pen: &mut Pen) -> usize {
    let template = pen.choose(&[5, 4, 3, 2]);
    let hero = pen.rank(facts.people.len(), 0);
    let person = &facts.people[hero];
    let (name, trade) = (person.name, facts.trades[person.trade].name);
    let (home, location) = (facts.places[person.home].name, facts.places[person.home].location);
    pen.say(&match template {
        0 => format!("{name} was {} in {home}.", indefinite(trade)),
        1 => format!("{name} the {trade} lived in {home} {location}."),
        2 => format!("In {home} {location} lived {} called {name}.", indefinite(trade)),
        _ => format!("There was once {} called {name}, who lived in {home}.", indefinite(trade)),
    });
    hero
}

impl<'f, 'p, 'c> Story<'f, 'p, 'c> {
    pub(super) fn new(facts: &'f Facts, pen: &'p mut Pen<'c>, hero: usize) -> Story<'f, 'p, 'c> {
        Story {
            facts,
            pen,
            hero,
            place: facts.people[hero].home,
            coins: 0,
            wish: None,
            shopped: false,
            items: Vec::new(),
            cast: vec![hero],
            company: None,
            food: None,
            debt: None,
            pet_told: false,
            facts_told: 0,
            chain: None,
        }
    }

    pub(super) fn person(&self, index: usize) -> &'f Person {
        &self.facts.people[index]
    }

    pub(super) fn hero(&self) -> &'f Person {
        self.person(self.hero)
    }

    /// A colour of a thing, drawn.
    pub(super) fn colour(&mut self, thing: usize) -> &'static str {
        COLOURS[self.pen.rank(COLOURS.len(), 5 * thing)]
    }

    /// `the red scarf`
    pub(super) fn the(&self, item: &Item) -> String {
        format!("the {} {}", item.colour, self.facts.things[item.thing].name)
    }

    /// Somebody by fame, nobody out of `excluded`; `favoured` is three times as likely as the most famous.
    pub(super) fn somebody(&mut self, excluded: &[usize], favoured: Option<usize>) -> usize {
        let weight = |index: usize| match index {
            _ if excluded.contains(&index) => 0,
            _ if favoured == Some(index) => 3 * zipf(0),
            _ => zipf(index),
        };
        let weights: Vec<u32> = (0..self.facts.people.len()).map(weight).collect();
        self.pen.choose(&weights)
    }

    /// Work and money at the start.
    pub(super) fn set_out(&mut self) {
        let hero = self.hero();
        let (subject, trade) = (hero.pronoun.subject, &self.facts.trades[hero.trade]);
        if self.pen.choose(&[1, 2]) == 0 {
            self.pen.say(&format!("Every day {subject} {} for {}.", trade.work, coins(trade.wage)));
        }
        let day = DAYS[self.pen.rank(DAYS.len(), hero.home)];
        self.coins = 10 * (2 + self.pen.rank(7, hero.trade) as u32) + self.pen.choose(&[1; 10]) as u32;
        let pouch = POUCHES[self.pen.rank(POUCHES.len(), self.hero)];
        let (coins, possessive) = (coins(self.coins), hero.pronoun.possessive);
        self.pen.say(&format!("One {day} {subject} had {coins} in {possessive} {pouch}."));
    }

    /// Cause and effect, which differ from place to place.
    pub(super) fn explain_the_day(&mut self) {
        let template = self.pen.choose(&[3, 4, 3, 2]);
        if template == 0 {
            return;
        }
        let chain = self.pen.rank(self.facts.chains.len(), 7 * self.place);
        self.chain = Some(chain);
        let chain = &self.facts.chains[chain];
        let (cause, effect, outcome) = (chain.cause.past, chain.effect.past, chain.outcome.past);
        self.pen.say(&match template {
            1 => format!("{cause}, so {effect}."),
            2 => format!("{cause}, so {effect}, and {outcome}."),
            _ => format!("{effect}, because {cause}."),
        });
    }

    /// What the hero wants, which follows from the hero's nature.
    pub(super) fn wish(&mut self) {
        let hero = self.hero();
        let template = self.pen.choose(&[2, 1]);
        let weight = |(rank, thing)| if thing == hero.favourite { (12, thing) } else { (5 - rank as u32, thing) };
        let options: Vec<_> = self.facts.things_for(hero.nature).enumerate().map(weight).collect();
        // The sentence reaches the colour before the thing, but which colours are likely depends on the thing.
        let thing = *self.pen.pick(&options);
        let colour = self.colour(thing);
        let (name, material) = (self.facts.things[thing].name, self.facts.things[thing].material);
        let (subject, nature) = (hero.pronoun.subject, self.facts.natures[hero.nature].past);
        let wanted = format!("wanted {} {name} of {material}", indefinite(colour));
        self.pen.say(&match template {
            0 => format!("{} {nature}, so {subject} {wanted}.", hero.name),
            _ => format!("{subject} {wanted}, because {subject} {nature}."),
        });
        self.wish = Some(Item { thing, colour, holder: None });
    }

    /// Who has what in the end; nothing of it is free but the last sentence.
    fn close(mut self) {
        let hero = self.hero().name;
        let start = ["In the evening", "At sunset", "When night came"][self.pen.rank(3, self.hero)];
        let mut belongings = vec![coins(self.coins)];
        belongings.extend(self.items.iter().filter(|item| item.holder == Some(self.hero)).map(|item| self.the(item)));
        if let Some((food, left @ 1..)) = self.food {
            belongings.push(counted(left, self.facts.foods[food].name, self.facts.foods[food].plural));
        }
        self.pen.say(&format!("{start} {hero} had {}.", listed(&belongings)));
        self.tell_what_others_have();
        self.say_the_last_word();
    }

    fn tell_what_others_have(&mut self) {
        for item in &self.items {
            let the = self.the(item);
            match item.holder {
                Some(person) if person == self.hero => {}
                Some(person) => self.pen.say(&format!("{} had {the}.", self.person(person).name)),
                None => self.pen.say(&format!("{the} was never seen again.")),
            }
        }
        let hero = self.hero().name;
        if let Some(wish) = &self.wish {
            let the = format!("{} {}", wish.colour, self.facts.things[wish.thing].name);
            self.pen.say(&format!("{hero} still wanted {}.", indefinite(&the)));
        }
        if let Some((person, owed)) = self.debt {
            self.pen.say(&format!("{hero} owed {} {}.", self.person(person).name, coins(owed)));
        }
    }

    fn say_the_last_word(&mut self) {
        let (hero, home) = (self.hero().name, self.facts.places[self.hero().home].name);
        let Some(chain) = self.chain.map(|chain| &self.facts.chains[chain]) else {
            return self.pen.say(&format!("{hero} slept well in {home}."));
        };
        let (cause, outcome) = (chain.cause.past, chain.outcome.past);
        let template = self.pen.choose(&[3, 4, 3]);
        self.pen.say(&match template {
            0 => format!("{hero} slept well in {home}."),
            1 => format!("And all that because {cause}."),
            _ => format!("In {home} people still tell how {cause} and {outcome}."),
        });
    }
}
