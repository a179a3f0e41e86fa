"""Makes the speech corpus in src/synccache/portrait/assets with espeak-ng (`apt install espeak-ng`).

    python tools/make_speech.py [--minutes 18 3] [--bitrate 18000]

Writes speech-train.ogg, speech-test.ogg (Opus, mono, 16 kHz), speech.json (which stretch is whose) and demo.ogg.
The two splits share neither a voice nor a sentence. Sentences are this project's own, partly composed from parts.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
from itertools import cycle
from pathlib import Path

import av
import numpy as np

ASSETS = Path(__file__).resolve().parents[1] / "src/synccache/portrait/assets"
RATE = 16_000

# Voice and variant, espeak-ng's spelling. Weighted towards English; the others add sounds that English lacks.
VOICES = {
    "train": [
        "en-us", "en-us+f1", "en-gb+m1", "en-us+m2", "en-gb+f2", "en-gb-scotland+m3", "en-us+f3", "en-gb+m4", "de+m1",
        "en-us+m7", "en-gb-scotland+f1", "en-us+klatt", "en-gb+klatt2", "fr+f2", "en-us+Andy", "en-gb-x-rp+m2",
        "en-us-nyc+m1", "es+m3", "en-029+f3", "en-us+klatt3", "en-gb+Alicia", "it+f1", "en-us+michael", "en-gb+steph",
        "de+f3", "en-us+linda", "en-gb+Mike", "fr+m4", "en-us+zac", "en-gb-x-gbclan+f2", "es+f2", "en-us+belinda",
        "en-gb+max", "it+m2", "en-us+edward", "en-gb+aunty",
    ],
    "test": [
        "en-us+f5", "en-gb+m6", "en-us+m8", "en-gb-scotland+f4", "en-us+Annie", "en-gb+klatt4", "de+m5", "en-us+adam",
        "fr+f4", "en-gb-x-rp+m5", "en-us+steph2", "es+m6",
    ],
}  # fmt: skip

ENGLISH = {
    "train": [
        "The kettle was already boiling when she opened the window.",
        "Nobody could explain why the old clock ran backwards on Sundays.",
        "Please bring two loaves of bread, a jar of honey and some apples.",
        "We walked along the river until the lamps came on.",
        "How much does a ticket to the harbour cost?",
        "My brother paints small boats and sells them at the market.",
        "If you press both buttons together, the machine starts over.",
        "It rained so hard that the road turned into a brook.",
        "Good morning everyone, and thank you for being here so early.",
        "Five hundred people waited quietly outside the library.",
        "The judge shook her head and closed the thick yellow folder.",
        "Why would a cat choose the coldest chair in the house?",
        "Turn left at the bakery and you will see the blue door.",
        "Mathematics is mostly the art of asking a better question.",
        "He laughed, coughed, and laughed again before he could speak.",
        "The first snow always makes our street sound different.",
        "I never thought that a violin could be so loud.",
        "Their garden is full of beans, pumpkins and wild mint.",
        "Could you say that once more, a little slower?",
        "A measurement without an error bar is only a rumour.",
        "The shoemaker's daughter wanted to fly aeroplanes.",
        "All through July the bees were busy in the lavender.",
        "Yes, of course, we can move the meeting to Thursday.",
        "She thought about the voyage, the vast ocean and the moon.",
        "Fresh fish is sold every Friday from four until half past five.",
        "Our teacher drew a perfect circle without looking.",
        "Wait, did you hear that? Something moved behind the wall.",
        "Put the heavy boxes below and the light ones above.",
        "The orchestra tuned, the hall grew dark, and a child sneezed.",
        "You owe me a coffee, a sandwich and an apology.",
        "Under the bridge someone was humming an old tune.",
        "Our new neighbour repairs bicycles, radios and umbrellas.",
        "Each spring the village chooses a new keeper of the bell.",
        "Why do the best ideas always come in the shower?",
        "The train to the north leaves from platform number nine.",
        "He shouted across the valley, and the valley shouted back.",
        "A smooth stone, a sharp shell, and a shoe full of sand.",
        "We are going to build a bigger boat, whatever it costs.",
        "My aunt Ursula argues with every oven she owns.",
        "Oh, how wonderful! You found the other glove.",
        "The judge of the pie contest had already eaten too much.",
        "Big Bob bought bubble gum, but Pam preferred pepper biscuits.",
        "Whoever wrote this poem knew a lot about whales.",
        "The weather tomorrow will be mild, with wind from the west.",
    ],
    "test": [
        "Our lighthouse has been dark since the spring storms.",
        "Tell the captain that the cargo arrived a day too soon.",
        "What a peculiar smell comes from that purple flower!",
        "Nine out of ten visitors forget to look at the ceiling.",
        "The baker hums while the dough is rising.",
        "May I borrow your map for about half an hour?",
        "Every evening the shepherd counted his sheep aloud.",
        "A good bridge bends before it breaks.",
        "The programme ended, but nobody wanted to leave the room.",
        "Thirty-three thirsty travellers thanked the farmer.",
        "I would have answered, yet my mouth was full of cake.",
        "Open the shutters, it is far too gloomy in here.",
        "She measures the sugar by eye and the flour by ear.",
        "Above the roofs a kite was pulling at its string.",
        "You may be right, however the numbers say otherwise.",
        "Who put pepper in the marmalade?",
    ],
}
PARTS = {
    "train": (
        ["The gardener", "My youngest cousin", "A tired pilot", "The woman in the red coat", "Our choir",
         "Every sailor", "The mayor's uncle", "An honest carpenter", "Some of the children",
         "The quiet boy from the mill"],
        ["has forgotten", "was looking for", "always admires", "will never sell", "carefully washed", "dreamed about",
         "put down", "gave away", "wrote a song about", "could not find"],
        ["a bowl of warm soup", "the broken telescope", "three purple umbrellas", "her grandfather's watch",
         "an enormous yellow cheese", "the key to the cellar", "a pair of woollen socks", "the smallest pony",
         "a hundred paper birds", "the longest letter of the year"],
        ["before breakfast.", "at the end of the pier.", "while the others were asleep.", "without saying a word.",
         "on the way to school.", "because of the thunder.", "in the middle of August.", "for no reason at all."],
    ),
    "test": (
        ["The night watchman", "A famous pianist", "Both of my sisters", "The owner of the cafe", "That clever fox"],
        ["hid", "keeps talking about", "promised to return", "almost dropped", "finally bought"],
        ["the silver spoons", "a box of chalk", "an orange bicycle", "the missing page", "four jars of plum jam"],
        ["after the concert.", "behind the post office.", "in spite of the fog.", "with a broad smile."],
    ),
}  # fmt: skip
OTHER = {
    "train": {
        "de": ["Der Zug hat leider wieder zwanzig Minuten Verspätung.",
               "Über den Dächern steht ein großer, runder Mond.",
               "Könnten Sie mir bitte das Fenster öffnen?", "Mein Großvater pflückt im Oktober süße Äpfel.",
               "Wir üben jeden Abend ein neues Lied.", "Die Köchin rührt ruhig in der roten Suppe."],
        "fr": ["Le boulanger ouvre sa boutique à cinq heures du matin.",
               "Où as-tu rangé les clés de la voiture bleue ?",
               "Une petite pluie tombe doucement sur le jardin.", "Mon oncle joue du violon sous les tilleuls.",
               "Nous avons vu un renard au bord du chemin.", "Il faut goûter ce fromage avec du bon pain."],
        "es": ["La abuela guarda las cartas en una caja de madera.", "Mañana vamos a pasear por la orilla del río.",
               "¿Quién ha dejado la puerta abierta?", "El panadero canta mientras amasa el pan.",
               "Había una luna enorme sobre las montañas.", "Los niños juegan a la pelota en la plaza."],
        "it": ["La domenica mangiamo sempre una torta di mele.", "Il treno per il mare parte fra dieci minuti.",
               "Chi ha spento la luce in cucina?", "Mia zia coltiva rose gialle e pomodori.",
               "Sotto il ponte passa una barca bianca.", "Abbiamo ascoltato la musica fino a mezzanotte."],
    },
    "test": {
        "de": ["Am Morgen lag dichter Nebel über dem Hafen.", "Hast du schon von der neuen Brücke gehört?",
               "Fünf Vögel saßen auf dem höchsten Ast."],
        "fr": ["Le facteur a oublié son chapeau chez nous.", "Pourquoi la rivière est-elle si haute ce soir ?",
               "Ma voisine peint des oiseaux sur des assiettes."],
        "es": ["El reloj de la torre lleva un año parado.", "¿Cuánto cuesta este sombrero de paja?",
               "Después de la lluvia salió un sol precioso."],
    },
}  # fmt: skip
DEMO = ("en-us+f5", 155, 55, "Hello! I am a portrait, and I have just learned to talk.")


def synthesise(voice: str, words_per_minute: int, pitch: int, text: str) -> np.ndarray:
    """Speech of `text`, float32 [samples] at 16 kHz, peak 0.5, silence at both ends cut to 0.12 s."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as out:
        command = ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-p", str(pitch), "-w", out.name, text]
        subprocess.run(command, check=True)
        with av.open(out.name) as source:
            resampler = av.AudioResampler("flt", "mono", RATE)
            frames = [r for f in [*source.decode(audio=0), None] for r in resampler.resample(f)]
    wave = np.concatenate([f.to_ndarray()[0] for f in frames]).astype(np.float32)
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    margin = int(0.12 * RATE)
    wave = np.pad(wave, margin)[loud[0] : loud[-1] + 2 * margin]
    return 0.5 * wave / np.abs(wave).max()


def sentences(split: str, language: str, draw: random.Random):
    """Endless texts of one language: hand-written ones in random order, mixed with composed ones in English."""
    written = ENGLISH[split] if language.startswith("en") else OTHER[split][language]
    for text in cycle(draw.sample(written, len(written))):
        yield text
        if language.startswith("en"):
            yield " ".join(draw.choice(part) for part in PARTS[split])


def render(split: str, minutes: float, draw: random.Random) -> tuple[np.ndarray, list[dict]]:
    """The whole split as one waveform and its index; one entry is two to four sentences of one voice."""
    texts = {voice: sentences(split, voice.split("+")[0], draw) for voice in VOICES[split]}
    pieces: list[np.ndarray] = []
    index: list[dict] = []
    total = 0
    for voice in cycle(VOICES[split]):
        parts = []
        for _ in range(draw.choice((2, 2, 3, 4))):
            speech = synthesise(voice, draw.randint(130, 200), draw.randint(25, 75), next(texts[voice]))
            parts += [speech, np.zeros(int(draw.uniform(0.1, 0.7) * RATE), np.float32)]
        wave = np.concatenate(parts)
        index.append({"name": f"{split}-{len(index):03d}", "voice": voice, "start": total, "samples": len(wave)})
        pieces.append(wave)
        total += len(wave)
        if total >= minutes * 60 * RATE:
            return np.concatenate(pieces), index
    raise AssertionError


def write_opus(path: Path, wave: np.ndarray, bitrate: int) -> None:
    with av.open(str(path), "w", format="ogg") as sink:
        stream = sink.add_stream(
            "libopus", rate=RATE, layout="mono", options={"application": "voip", "frame_duration": "60"}
        )
        stream.bit_rate = bitrate
        stream.codec_context.format = "s16"
        for start in range(0, len(wave), 960):
            chunk = np.pad(wave[start : start + 960], (0, max(0, start + 960 - len(wave))))
            frame = av.AudioFrame.from_ndarray((chunk * 32767).astype(np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts = RATE, start
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs=2, default=(18.0, 3.0), metavar=("TRAIN", "TEST"))
    parser.add_argument("--bitrate", type=int, default=18_000)
    arguments = parser.parse_args()
    ASSETS.mkdir(parents=True, exist_ok=True)
    listing = {"version": 1, "sample_rate": RATE, "made_by": "tools/make_speech.py with espeak-ng", "splits": {}}
    for seed, (split, minutes) in enumerate(zip(("train", "test"), arguments.minutes, strict=True)):
        wave, index = render(split, minutes, random.Random(seed))
        write_opus(ASSETS / f"speech-{split}.ogg", wave, arguments.bitrate)
        listing["splits"][split] = index
        print(f"{split}: {len(wave) / RATE / 60:.1f} min, {len(index)} recordings")
    (ASSETS / "speech.json").write_text(json.dumps(listing, indent=0) + "\n")
    write_opus(ASSETS / "demo.ogg", synthesise(*DEMO), 24_000)


if __name__ == "__main__":
    main()
