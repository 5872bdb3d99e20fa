/* Refines an install page that works without it: an iPad that says it is a Mac is told by its touch points; long digests and addresses
   get a button that copies them. Nothing is fetched and nothing is stored. */

const page = document.querySelector(".install");

function preferTouch(platform) {
  const both = page.querySelector("[data-both]");
  if (!both) return;
  const touch = navigator.maxTouchPoints > 0;
  const others = page.querySelector("h2.others");
  for (const card of page.querySelectorAll(".offer.first")) {
    const mine = (card.dataset.platform === platform) === touch;
    card.open = mine;
    card.classList.toggle("first", mine);
    (mine ? both : others).after(card);
  }
  others.hidden = false;
  both.remove();
  if (touch) page.querySelector(".qr")?.remove();
}

function addCopyButton(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copier";
  button.textContent = page.dataset.copy;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = page.dataset.copied;
    setTimeout(() => (button.textContent = page.dataset.copy), 2000);
  });
  text.after(" ", button);
}

if (page?.dataset.maybe) preferTouch(page.dataset.maybe);
if (page && navigator.clipboard) page.querySelectorAll("code.copy").forEach(addCopyButton);
