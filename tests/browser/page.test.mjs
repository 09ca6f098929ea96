// The web page as a visitor meets it: what it shows agrees with the API, and everybody can use it.
//
// One file for each part of the page. They run one after the other, in this order, because a swap moves the live version for all of them.

import "./page/gallery.mjs";
import "./page/search.mjs";
import "./page/comparison.mjs";
import "./page/backfill.mjs";
import "./page/compatibility.mjs";
import "./page/swap.mjs";
import "./page/access.mjs";
