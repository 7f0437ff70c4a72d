#!/usr/bin/python3
"""Generates vim.h and vim.c: C structs and descriptors of the part of vim25 that we use.

Input: VMware's schema as the metadata of python3-pyvmomi states it (calls of CreateDataType,
CreateManagedType, CreateEnumType in three modules), used.def (what is in use) and supplement.def
(what the metadata lacks).  The modules are executed with our own versions of those functions, so
nothing of pyVmomi itself runs.  Output depends on nothing else and is sorted: same input, same bytes.

What is generated: from the methods and properties in used.def, every type that can be reached:
bases, fields, and every subtype of a type in reach, unless used.def calls it closed.

What the tables do not say is put right here: DynamicData's two fields never travel; MethodFault,
RuntimeFault and LocalizedMethodFault are built in; a field of type MethodFault is a
LocalizedMethodFault on the wire; and a link (F_LINK) to another object travels as its key, a text.
"""
import importlib.util
import os
import re
import sys

F_LINK, F_OPTIONAL = 1, 4

SCALARS = {  # schema's name -> (kind, C type)
    "boolean": ("BOOL", "bool"), "byte": ("BYTE", "int8_t"), "short": ("SHORT", "int16_t"),
    "int": ("INT", "int32_t"), "long": ("LONG", "int64_t"), "float": ("FLOAT", "float"),
    "double": ("DOUBLE", "double"), "string": ("STRING", "const char *"),
    "vmodl.TypeName": ("STRING", "const char *"), "vmodl.PropertyPath": ("STRING", "const char *"),
    "vmodl.MethodName": ("STRING", "const char *"), "vmodl.URI": ("STRING", "const char *"),
    "vmodl.DateTime": ("TIME", "int64_t"), "vmodl.Binary": ("BINARY", "struct sv"),
    "anyType": ("ANY", "struct vim_any"),
}
HAS_FLAG = {"BOOL", "BYTE", "SHORT", "INT", "LONG", "FLOAT", "DOUBLE", "TIME"}
KEYWORDS = set("auto break case char const continue default do double else enum extern float for "
               "goto if inline int long register restrict return short signed sizeof static struct "
               "switch typedef union unsigned void volatile while linux unix asm typeof".split())
DROPPED = {"vmodl.DynamicData", "vmodl.DataObject", "vmodl.DynamicArray"}


class Schema:
    """data: name -> (wsdl, base, fields); managed: name -> (wsdl, base, properties, methods)."""

    def __init__(self):
        self.data, self.managed, self.enums, self.versions = {}, {}, {}, {}
        self.wsdl = {}  # wsdl name -> schema name
        self.born = {}  # data type -> version that brought it

    def load(self, folder):
        class Versions:
            def Add(self, *_):
                pass
        names = {n: Versions() for n in ("newestVersions", "stableVersions", "publicVersions",
                                         "oldestVersions")}
        names.update(CreateDataType=self.add_data, CreateManagedType=self.add_managed,
                     CreateEnumType=self.add_enum, AddVersion=self.add_version,
                     AddVersionParent=lambda *_: None, F_LINK=F_LINK, F_LINKABLE=2,
                     F_OPTIONAL=F_OPTIONAL, F_SECRET=8)
        for module in ("CoreTypes", "QueryTypes", "ServerObjects"):
            path = os.path.join(folder, module + ".py")
            with open(path, encoding="utf-8") as f:
                text = re.sub(r"^from .*$", "", f.read(), flags=re.M)
            exec(compile(text, module, "exec"), names)
        optional = ("vmodl.version.version0", F_OPTIONAL)
        self.add_data("vmodl.MethodFault", "MethodFault", "vmodl.DynamicData", "", [
            ("faultCause", "vmodl.MethodFault", *optional),
            ("faultMessage", "vmodl.LocalizableMessage[]", *optional)])
        self.add_data("vmodl.RuntimeFault", "RuntimeFault", "vmodl.MethodFault", "", [])
        self.add_data("vmodl.LocalizedMethodFault", "LocalizedMethodFault", "vmodl.DynamicData", "", [
            ("fault", "vmodl.MethodFault!", "vmodl.version.version0", 0),
            ("localizedMessage", "string", *optional)])
        self.add_managed("vmodl.ManagedObject", "ManagedObject", None, "", [], [])

    def add_version(self, name, _ns, text, *_):
        m = re.match(r"(\d+)\.(\d+)", text)
        self.versions[name] = int(m[1]) * 10 + int(m[2]) if m else 0

    def add_data(self, name, wsdl, base, version, fields):
        self.born[name] = version
        self.data[name] = (wsdl, base, [] if name in DROPPED else list(fields or []))
        self.wsdl[wsdl] = name

    def add_managed(self, name, wsdl, base, _version, props, methods):
        self.managed[name] = (wsdl, base, list(props or []), list(methods or []))
        self.wsdl[wsdl] = name

    def add_enum(self, name, wsdl, _version, values):
        self.enums[name] = (wsdl, list(values))
        self.wsdl[wsdl] = name

    def supplement(self, path):
        """data NAME BASE field:type...  |  method OWNER NAME NAMESPACE RETURN param:type..."""
        for words in lines_of(path):
            if words[0] == "data":
                self.add_data("supplement." + words[1], words[1], self.name_of(words[2]), "",
                              [self.typed(w) for w in words[3:]])
            elif words[0] == "field":  # field TYPE field:type...: behind the type's own fields
                wsdl, base, fields = self.data[self.name_of(words[1])]
                self.data[self.name_of(words[1])] = (
                    wsdl, base, fields + [self.typed(w) for w in words[2:]])
            elif words[0] == "method":
                owner, name, ns, result = words[1:5]
                optional = F_OPTIONAL if result.endswith("?") else 0
                kind = self.name_of(result.rstrip("?"))
                params = [self.typed(w) + (None,) for w in words[5:]]
                wsdl, base, props, methods = self.managed[self.name_of(owner)]
                methods.append((name, name, "", params, (optional, kind, kind), None, None, ns))
            else:
                sys.exit(f"{path}: unknown word {words[0]}")

    def name_of(self, wsdl):
        suffix = "[]" if wsdl.endswith("[]") else ""
        plain = wsdl[:-2] if suffix else wsdl
        known = {"dateTime": "vmodl.DateTime", "void": "void"}
        if plain in SCALARS:
            return wsdl
        name = known.get(plain, self.wsdl.get(plain))
        if not name:
            sys.exit(f"gen.py: the schema has no type {wsdl}")
        return name + suffix

    def typed(self, word):
        name, kind = word.split(":")
        return (name, self.name_of(kind.rstrip("?")), "", F_OPTIONAL if kind.endswith("?") else 0)

    def chain(self, name):
        """The type and its bases, root first."""
        out = []
        while name in self.data and name not in DROPPED:
            out.insert(0, name)
            name = self.data[name][1]
        return out


def lines_of(path):
    """Words of each line; '#' starts a comment; a line that begins with blanks goes on."""
    out = []
    with open(path, encoding="utf-8") as f:
        for line in f:
            words = line.split("#")[0].split()
            if words and line[0].isspace():
                out[-1] += words
            elif words:
                out.append(words)
    return out


class Used:
    def __init__(self, schema, path):
        self.schema = schema
        self.methods = {}    # wsdl -> (owner, method)
        self.managed = set()
        self.properties = set()  # (owner, name)
        self.seeds, self.closed = [], set()
        current = None
        for words in lines_of(path):
            word, rest = words[0], words[1:]
            if word == "managed":
                current = schema.name_of(rest[0])
                self.managed.add(current)
            elif word == "methods":
                for name in rest:
                    self.add_method(current, name)
            elif word == "properties":
                self.add_properties(current, rest)
            elif word == "types":
                self.seeds += [schema.name_of(n) for n in rest]
            elif word == "closed":
                self.closed |= {schema.name_of(n) for n in rest}
            else:
                sys.exit(f"{path}: unknown word {word}")
        for name in list(self.managed):
            while name:
                self.managed.add(name)
                name = schema.managed[name][1]

    def add_method(self, owner, name):
        for method in self.schema.managed[owner][3]:
            if method[1] == name:
                self.methods[name] = (owner, method)
                return
        sys.exit(f"used.def: {owner} has no method {name}")

    def add_properties(self, owner, names):
        have = [p[0] for p in self.schema.managed[owner][2]]
        for name in have if names == ["*"] else names:
            if name not in have:
                sys.exit(f"used.def: {owner} has no property {name}")
            self.properties.add((owner, name))

    def reach(self):
        """Schema names of all data types and enums in reach."""
        s, subtypes = self.schema, {}
        for name, (_, base, _f) in s.data.items():
            subtypes.setdefault(base, []).append(name)
        todo = list(self.seeds) + ["vmodl.LocalizedMethodFault", "vmodl.RuntimeFault"]
        for _, m in self.methods.values():
            todo += [p[1] for p in m[3]] + [m[4][2] if m[4][1] == "vim.Task" else m[4][1]]
            todo += m[6] or []
        for owner, name in self.properties:
            todo += [p[1] for p in s.managed[owner][2] if p[0] == name]
        done = set()
        while todo:
            name = todo.pop().rstrip("!").replace("[]", "")
            if name in done or name in DROPPED or not (name in s.data or name in s.enums):
                continue
            done.add(name)
            if name in s.data:
                todo += [s.data[name][1]] + [f[1] for f in s.data[name][2]]
                if not self.closed & set(s.chain(name)):
                    todo += subtypes.get(name, [])
        self.has_subtypes = {n for n in done if subtypes.get(n)}
        return done


def ident(text):
    text = re.sub(r"\W", "_", text)
    return text + "_" if text in KEYWORDS else text


def quoted(text):
    return '"%s"' % text


class Field:
    """One element: its name on the wire and in C, kind, flags and type."""

    def __init__(self, gen, name, kind, flags, since, c_name=None, born=None):
        self.later = born is not None and since > born and not flags & F_OPTIONAL
        self.name, self.c_name = name, c_name or ident(name)
        self.array = kind.endswith("[]")
        self.optional = bool(flags & F_OPTIONAL)
        self.since = since
        plain = kind.replace("[]", "")
        if plain == "vmodl.MethodFault":
            plain = "vmodl.LocalizedMethodFault"
        plain = "string" if flags & F_LINK else plain.rstrip("!")
        s, self.type = gen.schema, "NULL"
        if plain in SCALARS:
            self.kind, self.c_type = SCALARS[plain]
        elif plain in s.managed or plain == "vmodl.ManagedObject":
            self.kind, self.c_type = "REF", "struct vim_ref"
        elif plain not in gen.types:
            self.kind = "NONE"
        elif plain in s.enums:
            self.kind, self.c_type = "ENUM", "enum vim_" + s.enums[plain][0]
            self.type = "&vim_enum_" + s.enums[plain][0]
        else:
            self.kind, self.c_type = "OBJECT", "struct vim_%s *" % s.data[plain][0]
            self.type = "&vim_type_" + s.data[plain][0]
        self.flag = self.optional and not self.array and self.kind in HAS_FLAG

    def flags(self):
        flags = [n for n, on in (("VIM_ARRAY", self.array), ("VIM_OPTIONAL", self.optional),
                                 ("VIM_LATER", self.later)) if on]
        return " | ".join(flags) or "0"

    def member(self):
        note = " /* optional */" if self.optional and not self.array and not self.flag else ""
        if self.array:
            return "    VIM_ARRAY_OF(%s) %s;\n" % (self.c_type.rstrip(), self.c_name)
        space = "" if self.c_type.endswith("*") else " "
        flag = "    bool has_%s;\n" % self.c_name.rstrip("_") if self.flag else ""
        return "%s    %s%s%s;%s\n" % (flag, self.c_type, space, self.c_name, note)

    def row(self, struct):
        has = "offsetof(%s, has_%s)" % (struct, self.c_name.rstrip("_")) if self.flag else "0"
        return "    {%s, VIM_%s, %s, offsetof(%s, %s), %s, %d, %s},\n" % (
            quoted(self.name), self.kind, self.flags(), struct, self.c_name, has, self.since,
            self.type)


class Generator:
    def __init__(self, schema, used):
        self.schema, self.used, self.types = schema, used, used.reach()
        by_wsdl = lambda names, table: sorted(names, key=lambda n: table[n][0])
        self.data = by_wsdl([n for n in self.types if n in schema.data], schema.data)
        self.enums = by_wsdl([n for n in self.types if n in schema.enums], schema.enums)
        self.managed = by_wsdl(used.managed, schema.managed)
        self.methods = sorted(used.methods)

    def own_fields(self, name):
        version = self.schema.versions.get
        return [Field(self, f[0], f[1], f[3], version(f[2], 0),
                      born=version(self.schema.born[name], 0)) for f in self.schema.data[name][2]]

    def params(self, method):
        this = Field(self, "_this", "vmodl.ManagedObject", 0, 0, "self")
        return [this] + [Field(self, p[0], p[1], p[3], self.schema.versions.get(p[2], 0))
                         for p in method[3]]

    def result(self, method):
        kind = method[4][1]
        if kind == "void":
            return []
        return [Field(self, "returnval", kind, method[4][0], 0)]

    def header(self, out):
        out.write("/* Generated by vsphere/gen.py from the vim25 schema, used.def and supplement.def.\n"
                  " * Fields have their names and order on the wire; a struct begins with its base's\n"
                  " * fields, so a pointer to it may be used as a pointer to its base.  See soap.h. */\n"
                  "#ifndef VIC_VSPHERE_VIM_H\n#define VIC_VSPHERE_VIM_H\n\n"
                  "#include \"vsphere/soap.h\"\n\n")
        for name in self.enums:
            wsdl, values = self.schema.enums[name]
            out.write("enum vim_%s {\n    vim_%s_unset,\n" % (wsdl, wsdl))
            for v in values:
                out.write("    vim_%s_%s,\n" % (wsdl, re.sub(r"\W", "_", v)))
            out.write("    vim_%s_other = VIM_ENUM_OTHER,\n};\nextern const struct vim_enum vim_enum_%s;\n\n"
                      % (wsdl, wsdl))
        for name in self.data:
            self.struct(out, name)
        for name in self.methods:
            owner, method = self.used.methods[name]
            out.write("/* %s.%s */\n" % (self.schema.managed[owner][0], name))
            self.message(out, name + "_request", self.params(method))
            self.message(out, name + "_response", self.result(method))
            out.write("extern const struct vim_method vim_method_%s;\n\n" % name)
        for name in self.managed:
            out.write("extern const struct vim_managed vim_managed_%s;\n"
                      % self.schema.managed[name][0])
        out.write("\n#endif\n")

    def struct(self, out, name):
        wsdl = self.schema.data[name][0]
        out.write("struct vim_%s {\n    const struct vim_type *vim;\n" % wsdl)
        for part in self.schema.chain(name):
            if part != name:
                out.write("    /* %s */\n" % self.schema.data[part][0])
            elif len(self.schema.chain(name)) > 1:
                out.write("    /* own */\n")
            for field in self.own_fields(part):
                out.write(field.member())
        out.write("};\nextern const struct vim_type vim_type_%s;\n\n" % wsdl)

    def message(self, out, name, fields):
        out.write("struct vim_%s {\n    const struct vim_type *vim;\n" % name)
        for field in fields:
            out.write(field.member())
        out.write("};\nextern const struct vim_type vim_type_%s;\n" % name)

    def source(self, out):
        out.write("/* Generated by vsphere/gen.py: the tables behind vim.h. */\n"
                  "#include \"vsphere/vim.h\"\n\n#include <stddef.h>\n\n")
        for name in self.enums:
            wsdl, values = self.schema.enums[name]
            out.write("static const char *const values_%s[] = {%s};\n"
                      % (wsdl, ", ".join(quoted(v) for v in values)))
            out.write("const struct vim_enum vim_enum_%s = {%s, values_%s, %d};\n"
                      % (wsdl, quoted(wsdl), wsdl, len(values)))
        for name in self.data:
            wsdl = self.schema.data[name][0]
            chain = self.schema.chain(name)
            base = "&vim_type_" + self.schema.data[chain[-2]][0] if len(chain) > 1 else "NULL"
            self.table(out, wsdl, wsdl, base, self.own_fields(name),
                       "true" if name in self.used.has_subtypes else "false")
        for name in self.methods:
            self.method(out, name)
        for name in self.managed:
            self.managed_type(out, name)
        self.index(out, "types", "type", [self.schema.data[n][0] for n in self.data])
        self.index(out, "enums", "enum", [self.schema.enums[n][0] for n in self.enums])
        self.index(out, "methods", "method", self.methods)
        self.index(out, "managed", "managed", [self.schema.managed[n][0] for n in self.managed])

    def table(self, out, c_name, wire, base, fields, open_):
        struct = "struct vim_" + c_name
        rows = "NULL"
        if fields:
            rows = "fields_" + c_name
            out.write("static const struct vim_field %s[] = {\n" % rows)
            for field in fields:
                out.write(field.row(struct))
            out.write("};\n")
        out.write("const struct vim_type vim_type_%s = {%s, %s, sizeof(%s), %s, %d, %s};\n" % (
            c_name, quoted(wire), base, struct, rows, len(fields), open_))

    def method(self, out, name):
        owner, method = self.used.methods[name]
        self.table(out, name + "_request", name, "NULL", self.params(method), "false")
        self.table(out, name + "_response", name + "Response", "NULL", self.result(method), "false")
        ns = method[7] if len(method) > 7 else "urn:vim25"
        privilege = quoted(method[5]) if method[5] else "NULL"
        task = "true" if method[4][1] == "vim.Task" else "false"
        out.write("const struct vim_method vim_method_%s = {%s, %s, &vim_managed_%s, "
                  "&vim_type_%s_request, &vim_type_%s_response, %s, %s};\n" % (
                      name, quoted(name), quoted(ns), self.schema.managed[owner][0], name, name,
                      privilege, task))

    def managed_type(self, out, name):
        wsdl, base, props, _ = self.schema.managed[name]
        rows = "NULL"
        if props:
            rows = "properties_" + wsdl
            out.write("static const struct vim_property %s[] = {\n" % rows)
            for p in sorted(props):
                f = Field(self, p[0], p[1], p[3], 0)
                privilege = quoted(p[4]) if p[4] else "NULL"
                out.write("    {%s, VIM_%s, %s, %s, %s},\n" % (quoted(f.name), f.kind, f.flags(), f.type,
                                                               privilege))
            out.write("};\n")
        parent = "&vim_managed_" + self.schema.managed[base][0] if base else "NULL"
        out.write("const struct vim_managed vim_managed_%s = {%s, %s, %s, %d};\n" % (
            wsdl, quoted(wsdl), parent, rows, len(props)))

    @staticmethod
    def index(out, name, kind, wsdls):
        out.write("const struct vim_%s *const vim_%s[] = {\n" % (kind, name))
        for wsdl in sorted(wsdls):
            out.write("    &vim_%s_%s,\n" % (kind, wsdl))
        out.write("};\nconst size_t vim_%s_count = %d;\n" % (name, len(wsdls)))


def write_if_changed(path, write):
    import io
    text = io.StringIO()
    write(text)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            if f.read() == text.getvalue():
                os.utime(path)
                return
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.getvalue())


def main():
    here, out = os.path.dirname(os.path.abspath(__file__)), sys.argv[1]
    spec = importlib.util.find_spec("pyVmomi")
    if not spec:
        sys.exit("gen.py: this python has no pyVmomi (Debian: python3-pyvmomi)")
    schema = Schema()
    schema.load(list(spec.submodule_search_locations)[0])
    schema.supplement(os.path.join(here, "supplement.def"))
    gen = Generator(schema, Used(schema, os.path.join(here, "used.def")))
    write_if_changed(os.path.join(out, "vim.h"), gen.header)
    write_if_changed(os.path.join(out, "vim.c"), gen.source)


if __name__ == "__main__":
    main()
