// The page that tags files in the browser: the *Drop* view alone.

import "../style.css";

import { render } from "preact";

import { Drop } from "../drop";
import { PlayerBar } from "../player";
import { Queue } from "../queue";
import { BrowserTagger } from "./tagger";

const queue = new Queue(new BrowserTagger());

render(
  <>
    <header class="top">
      <span class="brand">moodfield</span>
    </header>
    <div id="content">
      <Drop queue={queue} />
    </div>
    <PlayerBar />
  </>,
  document.getElementById("page")!,
);
