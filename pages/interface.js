// Reads openapi.json to people: each door with what may be asked there, and each shape with its fields.

const METHODS = ["get", "post", "put", "delete"];

fetch("openapi.json").then((response) => response.json()).then((api) => {
  document.getElementById("about").textContent = api.info.description;
  const main = document.getElementById("doors");
  main.textContent = "";
  for (const tag of api.tags) {
    main.appendChild(element("h2", "The " + tag.name + " door"));
    main.appendChild(element("p", tag.description));
    for (const path of Object.keys(api.paths)) {
      for (const method of METHODS) {
        const asked = api.paths[path][method];
        if (asked && asked.tags[0] === tag.name) main.appendChild(operation(api, path, method, asked));
      }
    }
  }
  main.appendChild(element("h2", "Shapes"));
  for (const name of Object.keys(api.components.schemas)) main.appendChild(shape(name, api.components.schemas[name]));
  if (location.hash) location.replace(location.hash);
}).catch(() => {
  document.getElementById("doors").textContent = "openapi.json cannot be read.";
});

function operation(api, path, method, asked) {
  const section = document.createElement("section");
  const title = element("h3", "");
  title.appendChild(element("code", method.toUpperCase() + " " + path));
  title.appendChild(document.createTextNode(" " + asked.summary));
  section.appendChild(title);
  section.appendChild(element("p", asked.description));
  const schemes = asked.security.map((one) => Object.keys(one)[0]);
  section.appendChild(element("p", schemes.length
    ? "Authorization: Bearer, " + schemes.map((scheme) => api.components.securitySchemes[scheme].description).join("; ") + "."
    : "Open to all who reach the door."));
  const given = (asked.parameters || []).map((one) => (one.$ref ? api.components.parameters[last(one.$ref)] : one)).filter((one) => one.name !== "Accept-Language");
  if (given.length) {
    section.appendChild(table(["parameter", "in", "what"], given.map((one) => [element("code", one.name), one.in, [words(one.schema), one.description].filter(Boolean).join(" ")])));
  }
  if (asked.requestBody) section.appendChild(body(asked.requestBody.content));
  const rows = Object.keys(asked.responses).map((status) => {
    const named = asked.responses[status];
    const answer = named.$ref ? api.components.responses[last(named.$ref)] : named;
    const content = answer.content || {};
    const cell = document.createElement("span");
    for (const type of Object.keys(content)) {
      cell.appendChild(document.createTextNode(type + " "));
      if (content[type].schema.$ref) cell.appendChild(link(content[type].schema.$ref));
      for (const example of Object.keys(content[type].examples || {})) cell.appendChild(element("pre", content[type].examples[example].value));
    }
    return [status, answer.description, cell];
  });
  section.appendChild(table(["status", "when", "what"], rows));
  return section;
}

function body(content) {
  const line = element("p", "Body: ");
  Object.keys(content).forEach((type, nth) => {
    line.appendChild(document.createTextNode((nth ? " or " : "") + type + " "));
    if (content[type].schema.$ref) line.appendChild(link(content[type].schema.$ref));
  });
  return line;
}

function shape(name, schema) {
  const section = document.createElement("section");
  const title = element("h3", name);
  title.id = name;
  section.appendChild(title);
  section.appendChild(element("p", [schema.description, words(schema)].filter(Boolean).join(" ")));
  if (schema.properties) {
    const needed = schema.required || [];
    section.appendChild(table(["field", "what", ""], Object.keys(schema.properties).map((field) => {
      const type = schema.properties[field];
      const cell = document.createElement("span");
      const of = type.items || type;
      if (type.items) cell.appendChild(document.createTextNode("a list of "));
      if (of.$ref) cell.appendChild(link(of.$ref));
      else cell.appendChild(document.createTextNode(words(of)));
      if (type.description) cell.appendChild(document.createTextNode(" " + type.description));
      return [element("code", field), cell, needed.indexOf(field) < 0 ? "may be missing" : ""];
    })));
  }
  return section;
}

function words(schema) {
  const bounds = [];
  if (schema.enum) return "One of " + schema.enum.join(", ") + ".";
  if ("const" in schema) return "Always " + JSON.stringify(schema.const) + ".";
  if (schema.format) bounds.push(schema.format);
  if (schema.maxLength) bounds.push("at most " + schema.maxLength + " characters");
  if ("minimum" in schema) bounds.push("at least " + schema.minimum);
  if ("maximum" in schema) bounds.push("at most " + schema.maximum);
  if (schema.pattern) bounds.push(schema.pattern);
  const type = [].concat(schema.type || []).join(" or ");
  return type && type !== "object" ? [type].concat(bounds).join(", ") + "." : "";
}

function table(names, rows) {
  const all = document.createElement("table");
  const head = document.createElement("tr");
  for (const name of names) {
    const cell = element(name ? "th" : "td", name);
    if (name) cell.scope = "col";
    head.appendChild(cell);
  }
  all.appendChild(head);
  for (const row of rows) {
    const line = document.createElement("tr");
    for (const part of row) {
      const cell = document.createElement("td");
      if (part instanceof Node) cell.appendChild(part);
      else cell.textContent = part;
      line.appendChild(cell);
    }
    all.appendChild(line);
  }
  return all;
}

function link(reference) {
  const to = element("a", last(reference));
  to.href = "#" + last(reference);
  return to;
}

function last(reference) {
  return reference.split("/").pop();
}

function element(tag, words) {
  const made = document.createElement(tag);
  made.textContent = words || "";
  return made;
}
