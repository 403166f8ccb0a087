//! Scenes with others: meeting, giving, losing, talking.

use super::{
    story::{Item, Story},
    words::{coins, counted, indefinite},
};

/// Each thing has its usual places to be lost: the ranks are rotated by thing.
const CORNERS: [&str; 8] = [
    "on the bridge",
    "in the wood",
    "at the inn",
    "by the well",
    "in a ditch",
    "on the stairs",
    "at the fair",
    "in the tall grass",
];

impl Story<'_, '_, '_> {
    /// Somebody new comes, often the friend.
    pub(super) fn meet(&mut self) {
        let met = self.somebody(&self.cast.clone(), Some(self.hero().friend));
        let (hero, person) = (self.hero().name, self.person(met));
        let (trade, home) = (self.facts.trades[person.trade].name, self.facts.places[person.home].name);
        self.pen.say(&format!("On the road {hero} met {} the {trade} from {home}.", person.name));
        self.cast.push(met);
        self.company = Some(met);
    }

    /// The hero gives something away, likelier what the other one would want, and may get that one's favourite thing.
    pub(super) fn give(&mut self) {
        let Some(other) = self.company else { return };
        let (hero, person) = (self.hero().name, self.person(other));
        let nature = |item: &Item| self.facts.things[item.thing].nature;
        let weight = |item: &Item| match item.holder {
            Some(holder) if holder == self.hero => 1 + 4 * u32::from(nature(item) == person.nature),
            _ => 0,
        };
        let weights: Vec<u32> = self.items.iter().map(weight).collect();
        let given = self.pen.choose(&weights);
        let reason = match nature(&self.items[given]) == person.nature {
            true => format!(", because {} {}", person.name, self.facts.natures[person.nature].past),
            false => " as a present".into(),
        };
        let the = self.the(&self.items[given]);
        self.pen.say(&format!("{hero} gave {} {the}{reason}.", person.name));
        self.items[given].holder = Some(other);
        self.receive(other);
    }

    fn receive(&mut self, other: usize) {
        let (hero, person) = (self.hero().name, self.person(other));
        let thing = person.favourite;
        let known = self.items.iter().chain(&self.wish).any(|item| item.thing == thing);
        if known || self.pen.choose(&[3, 2]) == 0 {
            return;
        }
        let colour = self.colour(thing);
        let (name, material) = (self.facts.things[thing].name, self.facts.things[thing].material);
        let gift = indefinite(colour);
        self.pen.say(&format!("In return {} gave {hero} {gift} {name} of {material}.", person.name));
        self.items.push(Item { thing, colour, holder: Some(self.hero) });
    }

    /// Something is lost, and found by somebody or nobody.
    pub(super) fn lose(&mut self) {
        let held = |item: &Item| u32::from(item.holder == Some(self.hero));
        let weights: Vec<u32> = self.items.iter().map(held).collect();
        let lost = self.pen.choose(&weights);
        let corner = CORNERS[self.pen.rank(CORNERS.len(), 3 * self.items[lost].thing)];
        let the = self.the(&self.items[lost]);
        self.pen.say(&format!("{} lost {the} {corner}.", self.hero().name));
        let honest = if self.company.is_some() { 2 } else { 0 };
        self.items[lost].holder = match (self.pen.choose(&[2, 4, honest]), self.company) {
            (2, Some(other)) => {
                self.pen.say(&format!("{} found it and gave it back.", self.person(other).name));
                Some(self.hero)
            }
            (1, _) => {
                let finder = self.somebody(&self.cast.clone(), None);
                self.pen.say(&format!("{} found it and kept it.", self.person(finder).name));
                self.cast.push(finder);
                Some(finder)
            }
            _ => {
                self.pen.say("Nobody found it.");
                None
            }
        };
    }

    /// What the hero's animal did.
    pub(super) fn tell_of_the_pet(&mut self) {
        self.pet_told = true;
        let hero = self.hero();
        let pet = &self.facts.pets[hero.pet];
        let deed = pet.deeds[self.pen.rank(pet.deeds.len(), self.hero)];
        let possessive = hero.pronoun.possessive;
        self.pen.say(&format!("{possessive} {} {} {deed}.", pet.name, hero.pet_name));
    }

    /// The other one tells a fact about somebody or something else.
    pub(super) fn talk(&mut self) {
        let Some(other) = self.company else { return };
        self.facts_told += 1;
        let told = match self.pen.choose(&[5, 3, 2, 3]) {
            0 => self.fact_of_a_person(other),
            1 => self.price_of_a_thing(),
            2 => {
                let thing = &self.facts.things[self.pen.rank(self.facts.things.len(), 0)];
                format!("all good {} were of {}", thing.plural, thing.material)
            }
            _ => self.distance(),
        };
        self.pen.say(&format!("{} said that {told}.", self.person(other).name));
    }

    fn fact_of_a_person(&mut self, teller: usize) -> String {
        let subject = self.somebody(&[self.hero, teller], None);
        let person = self.person(subject);
        let (name, facts) = (person.name, self.facts);
        match self.pen.choose(&[4, 3, 5, 2, 2]) {
            0 => format!("{name} lived in {}", facts.places[person.home].name),
            1 => format!("{name} was {}", indefinite(facts.trades[person.trade].name)),
            2 => {
                let (thing, nature) = (facts.things[person.favourite].name, facts.natures[person.nature].past);
                format!("{name} {nature} and wanted {}", indefinite(thing))
            }
            3 => format!("{name} had {} called {}", indefinite(facts.pets[person.pet].name), person.pet_name),
            _ => format!("{name} often wrote to {}", facts.people[person.friend].name),
        }
    }

    fn price_of_a_thing(&mut self) -> String {
        let thing = self.pen.rank(self.facts.things.len(), 0);
        let sellers: Vec<_> = self.facts.sellers(thing).collect();
        let (place, price) = sellers[self.pen.rank(sellers.len(), thing)];
        let name = indefinite(self.facts.things[thing].name);
        format!("{name} cost {} in {}", coins(price), self.facts.places[place].name)
    }

    fn distance(&mut self) -> String {
        let from = self.pen.rank(self.facts.places.len(), self.place);
        let others: Vec<usize> = (0..self.facts.places.len()).filter(|place| *place != from).collect();
        let to = others[self.pen.rank(others.len(), from)];
        let way = counted(self.facts.miles(from, to), "mile", "miles");
        format!("it was {way} from {} to {}", self.facts.places[from].name, self.facts.places[to].name)
    }
}
