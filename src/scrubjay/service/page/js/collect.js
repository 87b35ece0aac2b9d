/** Collects files with their relative paths, "class/file.jpg", from dropped folders and from file fields. */

const DEPTH = 8; // nested folders

/**
 * @param {DataTransfer} transfer
 * @returns {Promise<{name: string, file: File}[]>}
 */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const collected = await Promise.all(entries.filter(Boolean).map((entry) => walk(entry, "", 0)));
  return collected.flatMap((files, index) => (entries[index].isDirectory ? withoutRoot(files) : files));
}

/** Files of a field that chooses a folder, or several files. */
export function chosenFiles(files) {
  const all = [...files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));
  return withoutRoot(all.filter(({ name }) => !hidden(name)));
}

async function walk(entry, path, depth) {
  if (entry instanceof File) return [{ name: entry.name, file: entry }];
  const name = path ? `${path}/${entry.name}` : entry.name;
  if (hidden(name) || depth > DEPTH) return [];
  if (entry.isFile) return [{ name, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) }];
  const reader = entry.createReader();
  const children = [];
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
    if (!batch.length) break;
    children.push(...batch);
  }
  return (await Promise.all(children.map((child) => walk(child, name, depth + 1)))).flat();
}

/** The folder that was chosen is not a class, unless the images lie directly in it. */
export function withoutRoot(files) {
  const nested = files.some(({ name }) => name.split("/").length > 2);
  return nested ? files.map(({ name, file }) => ({ name: name.slice(name.indexOf("/") + 1), file })) : files;
}

function hidden(name) {
  return name.split("/").some((part) => part.startsWith(".") || part === "__MACOSX" || part === "Thumbs.db");
}
