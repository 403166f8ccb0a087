//! Questions about a person.

use super::{
    facts::Facts,
    questions::Question,
    words::{capitalized, indefinite},
};

/// What can be asked about a person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Relation {
    Home,
    Trade,
    Want,
    Pet,
    Friend,
}

impl Relation {
    /// Every relation, weighted.
    pub(super) const ALL: [(u32, Relation); 5] =
        [(4, Relation::Home), (3, Relation::Trade), (5, Relation::Want), (2, Relation::Pet), (2, Relation::Friend)];

    fn ask(self, subject: &str) -> String {
        match self {
            Relation::Home => format!("where does {subject} live?"),
            Relation::Trade => format!("what does {subject} do for a living?"),
            Relation::Want => format!("what does {subject} want, and why?"),
            Relation::Pet => format!("which animal does {subject} have?"),
            Relation::Friend => format!("whom does {subject} often write to?"),
        }
    }
}

impl Question {
    /// A question about a named person.
    pub(super) fn of_person(facts: &Facts, index: usize, relation: Relation) -> Question {
        let person = &facts.people[index];
        let name = person.name;
        let (says, brief) = match relation {
            Relation::Home => {
                let home = facts.places[person.home].name;
                (format!("lives in {home}"), format!("in {home}."))
            }
            Relation::Trade => {
                let trade = indefinite(facts.trades[person.trade].name);
                (format!("is {trade}"), format!("{trade}."))
            }
            Relation::Want => {
                let (thing, nature) = (indefinite(facts.things[person.favourite].name), &facts.natures[person.nature]);
                let reason = format!("because {} {}", person.pronoun.subject, nature.present);
                (format!("wants {thing}, {reason}"), format!("{thing}, {reason}."))
            }
            Relation::Pet => {
                let pet = format!("{} called {}", indefinite(facts.pets[person.pet].name), person.pet_name);
                (format!("has {pet}"), format!("{pet}."))
            }
            Relation::Friend => {
                let friend = facts.people[person.friend].name;
                (format!("often writes to {friend}"), format!("{friend}."))
            }
        };
        let ask = capitalized(&relation.ask(name));
        let question = Question::new(format!("{relation:?} {name}"), ask, format!("{name} {says}."), brief);
        Question { subject: Some((index, relation)), ..question }
    }

    /// The same question with a pronoun.
    pub(super) fn following(self, facts: &Facts, index: usize, relation: Relation) -> Question {
        Question { ask: format!("And {}", relation.ask(facts.people[index].pronoun.subject)), ..self }
    }
}
