//! What can happen next in a story, and how likely it is.

use super::story::{MOST_COINS, Story};

/// A scene. The first words of every scene differ, so that a reader knows which one begins.
#[derive(Clone, Copy)]
pub(super) enum Scene {
    Shop,
    BuyFood,
    Eat,
    Work,
    Meet,
    Give,
    Lose,
    Pet,
    Talk,
}

const SCENES: [Scene; 9] = [
    Scene::Shop,
    Scene::BuyFood,
    Scene::Eat,
    Scene::Work,
    Scene::Meet,
    Scene::Give,
    Scene::Lose,
    Scene::Pet,
    Scene::Talk,
];

impl Scene {
    /// Draws the next scene, `None` being the end with weight `end`.
    pub(super) fn next(story: &mut Story, end: u32) -> Option<Scene> {
        let mut weights = vec![end];
        weights.extend(SCENES.iter().map(|scene| scene.weight(story)));
        match story.pen.choose(&weights) {
            0 => None,
            taken => Some(SCENES[taken - 1]),
        }
    }

    /// Zero where the state does not allow the scene. `Meet` and `Talk` limit themselves, the others use themselves up.
    fn weight(self, story: &Story) -> u32 {
        let holds = story.items.iter().any(|item| item.holder == Some(story.hero));
        let (possible, weight) = match self {
            Scene::Shop => (!story.shopped, 14),
            Scene::BuyFood => (story.food.is_none() && story.coins >= 2, 3),
            Scene::Eat => (story.food.is_some_and(|(_, left)| left > 0), 7),
            // Two days at the best wage.
            Scene::Work => (story.coins + 18 <= MOST_COINS, 3),
            Scene::Meet => (story.cast.len() < 4, 6),
            Scene::Give => (holds && story.company.is_some(), 9),
            Scene::Lose => (holds, 3),
            Scene::Pet => (!story.pet_told, 3),
            Scene::Talk => (story.company.is_some() && story.facts_told < 2, 7),
        };
        if possible { weight } else { 0 }
    }

    /// Writes the scene and changes the state.
    pub(super) fn tell(self, story: &mut Story) {
        match self {
            Scene::Shop => story.shop(),
            Scene::BuyFood => story.buy_food(),
            Scene::Eat => story.eat(),
            Scene::Work => story.work(),
            Scene::Meet => story.meet(),
            Scene::Give => story.give(),
            Scene::Lose => story.lose(),
            Scene::Pet => story.tell_of_the_pet(),
            Scene::Talk => story.talk(),
        }
    }
}
