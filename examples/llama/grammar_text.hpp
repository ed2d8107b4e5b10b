// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <string_view>
#include <vector>

// The words and plots of the little stories.
//
// A plot is a text with three kinds of marks:
//   {a|b|c}     one of them, each equally likely, chosen anew each time; alternatives may hold marks
//   [is|was]    the first in a story told in the present, the second in one told in the past
//   #aside      one of the list "aside", chosen anew each time
//   $place2     a word of the list "place", chosen when first met and kept until the story ends; words of one list
//               with different numbers differ. $Place2 is the same with a capital letter.
//   $thing1.he  a form that agrees with the word: .he (she, it, they), .him, .his, .is (tense of the story), .are
//               (present tense), .has, .a (a, some), .kid (girl, boy); of a number .given and .left, two parts of it
namespace llama {

namespace detail {

using Words = std::vector<std::string_view>;

// A word's class, after the colon, says what agrees with it.
inline const std::map<std::string_view, Words, std::less<>>& wordLists() {
  static const std::map<std::string_view, Words, std::less<>> lists = {
      {"person", {"Mia:she",   "Ella:she",  "Nora:she", "Rosa:she", "Ivy:she",  "Tara:she", "Lena:she", "Zoe:she",
                  "Clara:she", "Wendy:she", "Anna:she", "Maya:she", "Ruth:she", "Olga:she", "Lucy:she", "Jane:she",
                  "Tom:he",    "Ben:he",    "Max:he",   "Oscar:he", "Finn:he",  "Hugo:he",  "Leo:he",   "Paul:he",
                  "Emil:he",   "Jack:he",   "Sam:he",   "Otto:he",  "Karl:he",  "Dan:he",   "Peter:he", "Noah:he"}},
      {"elder",
       {"mother:she", "father:he", "grandmother:she", "grandfather:he", "aunt:she", "uncle:he", "sister:she",
        "brother:he"}},
      {"kind", {"$person1.kid", "$person1.kid", "$person1.kid", "fox", "bear", "rabbit", "mouse", "duck", "frog"}},
      {"friendkind", {"$person2.kid", "$person2.kid", "goat", "pony", "squirrel", "hedgehog", "turtle", "lamb"}},
      {"character", {"little", "young", "kind", "brave", "clever", "shy", "cheerful", "gentle", "curious", "lazy"}},
      {"thing",
       {"kite:it",      "ball:it",      "drum:it",     "lamp:it",      "hat:it",      "book:it",     "bell:it",
        "boat:it",      "cup:it",       "whistle:it",  "wagon:it",     "basket:it",   "scarf:it",    "flute:it",
        "coat:it",      "doll:it",      "robot:it",    "blanket:it",   "puzzle:it",   "umbrella:it", "boots:they",
        "mittens:they", "marbles:they", "skates:they", "crayons:they", "blocks:they", "beads:they",  "ribbons:they",
        "shells:they",  "stamps:they",  "gloves:they", "slippers:they"}},
      {"colour",
       {"red", "blue", "green", "yellow", "white", "black", "purple", "brown", "pink", "grey", "golden", "silver"}},
      {"size", {"big", "small", "new", "shiny", "pretty", "soft", "heavy", "tiny"}},
      {"place",
       {"park", "river",   "market", "school",  "beach", "barn",    "mill",   "pond", "bridge",   "farm",
        "lake", "harbour", "castle", "library", "fair",  "station", "bakery", "shop", "fountain", "playground"}},
      {"spot",
       {"behind a rock", "under a bush", "in the tall grass", "next to a log", "near the gate", "under a bench",
        "beside the path", "between two trees", "on a wall", "by a well", "behind a fence", "at the foot of a tree"}},
      {"home",
       {"in a $box1 under the bed", "in a $box1 by the door", "on the shelf above the bed",
        "on the table by the window", "in a $box1 behind the chair", "on a hook near the stove",
        "in a $box1 next to the clock", "on top of the cupboard"}},
      {"box", {"box", "bag", "chest", "jar", "drawer", "trunk", "crate", "bucket"}},
      {"weather", {"sunny", "windy", "cloudy", "cold", "warm", "snowy", "foggy", "quiet"}},
      {"fruit",
       {"apples", "pears", "plums", "nuts", "berries", "cakes", "cookies", "eggs", "carrots", "cherries", "mushrooms",
        "flowers"}},
      {"animal",
       {"owl:it", "cow:it", "cat:it", "dog:it", "hen:it", "sheep:it", "horse:it", "swan:it", "donkey:it", "crow:it",
        "pig:it", "goose:it"}},
      {"food", {"soup", "bread", "pie", "rice", "cheese", "porridge", "jam", "honey", "toast", "salad"}},
      // How many, how many of them are given away, how many are left.
      {"count",
       {"four:two two", "five:two three", "five:three two", "six:two four", "six:three three", "six:four two",
        "seven:two five", "seven:three four", "seven:four three", "seven:five two", "eight:two six", "eight:three five",
        "eight:four four", "eight:five three", "eight:six two"}},
      {"mend", {"glue", "thread", "tape", "string", "paint", "wax"}},
      {"look", {"big", "fat", "small", "thin", "white", "sleepy", "young", "tall", "hungry", "funny"}},
      {"glad", {"happy", "very happy", "glad", "proud", "so glad", "full of joy"}},
      {"day", {"day", "morning", "afternoon", "evening"}},
      {"said", {"[says|said]", "[answers|answered]", "[replies|replied]", "[whispers|whispered]", "[calls|called]"}},
      {"asked", {"[asks|asked]", "[wonders|wondered]", "[cries|cried]"}},
      {"went", {"[goes|went]", "[walks|walked]", "[runs|ran]", "[hurries|hurried]", "[rides|rode]"}},
      {"flier", {"bird", "bee", "leaf", "feather", "cloud", "bat", "butterfly", "fly", "snowflake"}},
      {"sound", {"song", "noise", "voice", "laugh", "trumpet", "dog", "clock", "train"}},
      {"hero", {"fox", "king", "queen", "dragon", "pirate", "giant", "whale", "witch", "wolf", "prince"}},
      {"smell", {"rain", "grass", "smoke", "bread", "roses", "tea", "hay", "paint"}},
      {"thought", {"bed", "dinner", "friends", "birthday", "garden", "$elder1", "$elder2", "room"}},
      // A sentence that could stand anywhere.
      {"aside",
       {"The {sky|water|lake|roof|snow|moon|road|grass} [is|was] {bright|dark|#colour|very still|like a mirror}.",
        "A {{little|white|big|tired|lonely} |}#flier [flies|flew] {over the trees|past $person1|past $person2|across "
        "the road|high above "
        "them|over a roof}.",
        "$Person1 [hears|heard] a {soft|strange|loud|merry} #sound {far away|nearby|in the wind|behind a wall}.",
        "$Person2 [tells|told] $person1 {a story|a joke|a secret|a fairy tale} about a #look #hero and a #hero.",
        "The $kind1 [hums|hummed] {a song|a little tune|an old song} and [thinks|thought] of $person1.his #thought.",
        "\"{Look|Listen|Come quickly|Wait for me|Be careful}!\" [cries|cried] {$person1|$person2}.",
        "It [smells|smelled] of {#smell|#smell and #smell} {there|everywhere|again}.",
        "{The $thing1 $thing1.is very dear to $person1.|The whole {street|house|town} [knows|knew] the $thing1 of "
        "$person1.}"}},
  };
  return lists;
}

inline std::string_view opening() {
  return "{Once upon a time there|One day there|Long ago there|In a little house near the $place1 there} [is|was] a "
         "$character1 $kind1 named $person1. $Person1 [has|had] $thing1.a {$size1 |}$colour1 $thing1{| from "
         "$person1.his $elder2}. ";
}

inline std::string_view ending() {
  return "{That night $person1 [sleeps|slept] well.|$Person1 and $person2 [are|were] #glad.|From that day on, $person1 "
         "and $person2 [are|were] good friends.|\"{What a day|What a good day|I am so happy}!\" #said the $kind1.|Then "
         "$person1 [eats|ate] some $food1 and [goes|went] to bed.}";
}

// The middles of the stories. $thing1 belongs to $person1 from the opening on.
inline const Words& plots() {
  static const Words middles = {
      // Lost and found, and back where it was kept.
      "$Person1.he always [keeps|kept] $thing1.him $home1. One $weather1 #day, $person1 [takes|took] the $colour1 "
      "$thing1 and #went to the $place2 with $person1.his {best |}friend $person2, a {$character2 |}$friendkind1. They "
      "[play|played] {all day|for a long time|until noon|for an hour}. #aside {But then|On the way home|Then}, the "
      "$kind1 [looks|looked] around. \"{Oh no, where|Where} $thing1.are my $colour1 $thing1?\" #asked $person1. "
      "$Person1.he [looks|looked] $spot1{ and $spot3|}, but $thing1.he $thing1.is not there. #aside $Person2 "
      "[looks|looked] $spot2, and there $thing1.he $thing1.is! \"{Thank you|Oh, thank you|You are the best}, "
      "$person2,\" #said $person1. At home, $person1 [puts|put] the $colour1 $thing1 back $home1. ",
      // Lent and returned.
      "One $weather1 #day, $person1.his friend $person2 [comes|came] to the {house|door}. $Person2 [is|was] a "
      "$character2 $friendkind1. \"May I borrow your $colour1 $thing1?\" #asked $person2. \"I want to "
      "{take|show|lend|bring} $thing1.him to my $elder1.\" #aside $Person1 [thinks|thought] for a "
      "{moment|minute|while}. \"{Yes|All right|Of course}, but please bring $thing1.him back {tomorrow|on Sunday|in "
      "the evening|before dinner},\" #said $person1.he. $Person2 [takes|took] the $thing1 to the $place2. The $elder1 "
      "[likes|liked] $thing1.him {very much|a lot|at once}. #aside {The next day|Later|Soon|As promised}, the "
      "$friendkind1 [comes|came] back and [gives|gave] the $colour1 $thing1 to $person1. \"Here $thing1.are your "
      "$thing1. My $elder1 [says|said] that $thing1.he $thing1.are {very nice|lovely|the best|a treasure},\" #said "
      "$person2. ",
      // A swap: whose is what has changed.
      "$Person1.his friend $person2, a {$character2 |}$friendkind1, [has|had] $thing2.a {$size2 |}$colour2 $thing2. "
      "One $weather1 day they [meet|met] at the $place2. #aside \"I like your $colour1 $thing1,\" #said $person2. "
      "\"And I like your $colour2 $thing2,\" #said $person1. {\"Shall we swap?\" #asked $person2.|So $person2 "
      "[asks|asked] if they could swap.|\"Let us swap!\" #said $person2.} $Person1 [is|was] #glad. So $person1 "
      "[gives|gave] the $thing1 to $person2, and $person2 [gives|gave] the $thing2 to $person1. #aside {In the "
      "evening|After that|Later|Then}, $person1 [shows|showed] $person1.his $elder1 the $colour2 $thing2. \"And where "
      "$thing1.are your $thing1?\" #asked the $elder1. \"$Person2 has $thing1.him now,\" #said the $kind1. ",
      // A day out and the way back, in the opposite order.
      "One $weather1 #day, $person1 [takes|took] the $thing1 and [goes|went] for a walk. First $person1.he "
      "[comes|came] to the $place2, where $person1.he [sees|saw] a #look $animal1. Then $person1.he [comes|came] to "
      "the $place3, where $person1.he [sees|saw] a #look $animal2. At last $person1.he [comes|came] to the $place4. "
      "There the $kind1 [meets|met] $person2 and [shows|showed] $person2.him the $colour1 $thing1. They [sit|sat] "
      "$spot1 and [eat|ate] some $food2. #aside On the way home, $person1 and $person2 [pass|passed] the $place3 and "
      "[wave|waved] to the $animal2. Then they [pass|passed] the $place2 and [wave|waved] to the $animal1. The $thing1 "
      "$thing1.is still with $person1. ",
      // Broken and mended.
      "One $weather1 #day, $person1.his friend $person2 [plays|played] with $thing1.him at the $place2. #aside "
      "$Person2 [is|was] {not careful|in a hurry|too fast}, and [drops|dropped] the $colour1 $thing1 {on the "
      "ground|into the mud|on a stone|into the water}. Now the $thing1 $thing1.is broken. $Person2 [is|was] {sad|very "
      "sad|ashamed|afraid}. \"I am {so |very |}sorry, $person1. I broke your $thing1,\" #said $person2. $Person1 "
      "{[does|did] not cry|[is|was] not angry|[takes|took] a deep breath}. \"My $elder1 can mend $thing1.him,\" #said "
      "$person1.he. So they [go|went] to the $elder1. The $elder1 [takes|took] some $mend1, and soon the $colour1 "
      "$thing1 $thing1.is as good as new. \"{You should|Please} thank the $mend1, not me,\" [laughs|laughed] the "
      "$elder1, and $elder1.he [gives|gave] $person1 and $person2 some $food1. #aside ",
      // Gone, and somebody knows where.
      "But one $weather1 #day, the $thing1 $thing1.is gone. $Person1 [looks|looked] {everywhere|in every room|all over "
      "the house|$spot1}. #aside \"$Person2, do you know where my $colour1 $thing1 $thing1.are?\" #asked the $kind1. "
      "\"{No|I do not|Sorry, no}, but ask your $elder1,\" #said $person2, who [is|was] "
      "{drawing|reading|baking|sewing|cooking} {in the kitchen|in the garden|at the window|by the fire}. So $person1 "
      "[asks|asked] $person1.his $elder1. \"I put $thing1.him $home1,\" #said $elder1.he. $Person1 [looks|looked] "
      "$home1, "
      "and there $thing1.he $thing1.is! #aside {Then|Now|At last} $person1 and $person2 [can|could] {play|go out} with "
      "the $colour1 $thing1 at the $place2. ",
      // Counting.
      "One $weather1 #day, $person1 [puts|put] the $thing1 $home1 and #went to the $place2 {alone|with a "
      "basket|early|in a hurry}. There $person1.he [finds|found] $count1 {big|small|fresh|fine|lovely} $fruit1 $spot1. "
      "#aside {Soon|Then|After "
      "a while} $person1.his friend $person2, a {hungry|tired|$character2} $friendkind1, [comes|came] along. $Person1 "
      "[gives|gave] $count1.given $fruit1 to $person2. #aside At home, $person1.his $elder1 [asks|asked], \"How many "
      "$fruit1 do you have, and where $thing1.are your $colour1 $thing1?\" \"I have $count1.left $fruit1, and the "
      "$thing1 $thing1.are $home1,\" #said the $kind1. ",
  };
  return middles;
}

}  // namespace detail
}  // namespace llama
